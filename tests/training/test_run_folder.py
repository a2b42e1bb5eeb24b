"""What a run leaves on disk survives full disks, kills and half-written files."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from drawn import CONFIG, Drawn

from ihp_backend.training.curves import draw_curves
from ihp_backend.training.run_folder import TrainerError
from ihp_backend.training.trainer import Trainer


def test_a_full_disk_is_named_and_overwrites_nothing(tmp_path: Path) -> None:
    """Files may grow to 100 KB: what a full disk does to the writer."""
    Trainer(CONFIG, Drawn(), tmp_path).run(3)
    before = {path: path.read_bytes() for path in (tmp_path / "last.pt", tmp_path / "best/model.safetensors")}
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
from pathlib import Path
from ihp_backend.training.run_folder import WriteError
from drawn import CONFIG, Drawn
from ihp_backend.training.trainer import Trainer
trainer = Trainer(CONFIG, Drawn(), Path({str(tmp_path)!r}))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    trainer.run()
except WriteError as error:
    print("told:", error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "told:" in done.stdout, done.stderr
    assert "cannot be written" in done.stdout
    assert {path: path.read_bytes() for path in before} == before
    assert not list(tmp_path.glob(".new-*"))
    Trainer(CONFIG, Drawn(), tmp_path).run()  # and it goes on when there is room again


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    Trainer(CONFIG, Drawn(), tmp_path).run(3)
    last = tmp_path / "last.pt"
    for damaged in (last.read_bytes()[:1000], b"", b"no state"):
        last.write_bytes(damaged)
        with pytest.raises(TrainerError, match=r"last\.pt is no training state.*remove it"):
            Trainer(CONFIG, Drawn(), tmp_path)


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    Trainer(CONFIG, Drawn(), tmp_path)
    with pytest.raises(TrainerError, match="other options"):
        Trainer(replace(CONFIG, rate=1.0), Drawn(), tmp_path)


def test_a_half_written_log_does_not_stop_a_run(tmp_path: Path) -> None:
    Trainer(CONFIG, Drawn(), tmp_path).run(3)
    before = (tmp_path / "log.csv").read_text()
    with (tmp_path / "log.csv").open("a") as file:
        file.write("5,ce,0.3\n6,c")
    Trainer(CONFIG, Drawn(), tmp_path).run()
    after = (tmp_path / "log.csv").read_text()
    assert after.startswith(before)
    assert not [line for line in after.splitlines() if line.startswith("5,")]
    draw_curves(tmp_path / "log.csv", tmp_path / "curves.png")
