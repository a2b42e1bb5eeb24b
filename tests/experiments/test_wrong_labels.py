"""Wrong labels are made as told, and counted where they come."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from running_demo import drawn_people

from ihp_backend.cli import main
from ihp_backend.data.catalogue import first_photos, open_data_set
from ihp_backend.experiments.wrong_labels import Judged, measure, summary
from ihp_backend.inference.predictor import Predictor


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("lip", device="cpu")


def test_precision_and_recall_are_counted_in_the_order_of_doubt() -> None:
    made = {0: "swapped", 2: "swapped", 50: "cut"}
    order = np.random.default_rng(1).permutation(100).tolist()
    found = summary([Judged(n // 5, "Face", 1 - n / 100, made.get(n, "")) for n in order])
    assert (found["masks"], found["wrong"]) == (100, 3)
    assert [(t["looked_at"], t["precision"], t["recall"]) for t in found["top"]] == [
        (1, 1.0, 0.333),
        (2, 0.5, 0.333),
        (5, 0.4, 0.667),
        (10, 0.2, 0.667),
        (20, 0.1, 0.667),
    ]
    assert found["found_in_top_tenth"] == {"swapped": 1.0, "cut": 0.0}
    assert (found["photos"], found["photos_with_a_wrong_mask"]) == (20, 2)
    assert found["top_photos"][0] == {"share": 0.01, "looked_at": 1, "precision": 1.0, "recall": 0.5}
    assert summary([])["top"][0]["precision"] == 0


def test_so_many_masks_are_made_wrong_and_none_without_a_share(predictor: Predictor, tmp_path: Path) -> None:
    data = first_photos(open_data_set(drawn_people(tmp_path), "train"), 6)
    clean = measure(predictor, data, share=0.0, quiet=True)
    assert {mask.made for mask in clean} == {""}
    wrong = measure(predictor, data, share=0.5, quiet=True)
    kinds = Counter(mask.made for mask in wrong)
    assert len(wrong) == len(clean)
    assert 0.3 * len(wrong) < kinds["swapped"] + kinds["cut"] < 0.7 * len(wrong)
    assert min(kinds["swapped"], kinds["cut"]) > 0
    assert measure(predictor, data, share=0.5, quiet=True) == wrong, "the same seed, the same figures"
    made = [mask.doubt for mask in wrong if mask.made]
    assert np.mean(made) > np.mean([mask.doubt for mask in wrong if not mask.made]) + 0.2


def test_the_command_prints_it(tmp_path: Path) -> None:
    data = drawn_people(tmp_path / "data")
    done = CliRunner().invoke(main, ["wrong-labels", "--data", str(data), "--photos", "2", "--share", "1"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert found["photos"] == 2
    assert found["wrong"] == found["masks"]
    lost = CliRunner().invoke(main, ["wrong-labels", "--data", str(tmp_path / "none")])
    assert lost.exit_code == 1
