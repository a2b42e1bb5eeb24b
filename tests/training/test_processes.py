"""Two processes that train together learn what one learns of the same photos, and one of them writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchrun import logged, torchrun

from ihp_backend.training.processes import Processes, joined_processes, mean_over_processes

SHARED_BATCH = Path(__file__).parents[1] / "support/shared_batch.py"


def test_the_shares_of_a_batch_are_the_batch() -> None:
    for size, count in ((8, 1), (8, 3), (5, 2)):
        places = [place for rank in range(count) for place in Processes(rank, count).share(size)]
        assert places == list(range(size))


def test_a_process_alone_is_the_first_and_has_its_own_mean() -> None:
    with joined_processes("cpu") as (alone, device):
        assert (alone, device) == (Processes(0, 1), "cpu")
    assert alone.is_first
    assert alone.from_first(lambda: 3) == 3
    assert alone.mean({"ce": 0.5}) == {"ce": 0.5}
    value = torch.tensor(3)
    assert mean_over_processes(value) is value
    module = torch.nn.Linear(1, 1)
    assert alone.joined(module) is module


@pytest.mark.parametrize("sp_loss", ["prototypes", "pairs", "none"])
def test_two_processes_learn_what_one_learns_of_the_same_photos(sp_loss: str, tmp_path: Path) -> None:
    """One photo and two photos: the mean of the two means would be another loss."""
    subprocess.run([sys.executable, SHARED_BATCH, tmp_path / "one", sp_loss], check=True, capture_output=True)
    together = torchrun(2, SHARED_BATCH, tmp_path / "two", sp_loss)
    output, _ = together.communicate(timeout=120)
    assert together.returncode == 0, output
    one, two = logged(tmp_path / "one"), logged(tmp_path / "two")
    assert two == pytest.approx(one, rel=1e-4, abs=1e-7)
    assert ("3", "keep") in one
    states = [torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("one", "two")]
    # AdamW's first moments are sums of the gradients: unlike weights, they show a factor.
    moments = [state["optimiser"]["state"] for state in states]
    assert moments[0].keys() == moments[1].keys()
    compared = [i for i in moments[0] if "exp_avg" in moments[0][i]]
    assert compared
    for i in compared:
        expected = moments[0][i]["exp_avg"]
        torch.testing.assert_close(
            moments[1][i]["exp_avg"], expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
        )
