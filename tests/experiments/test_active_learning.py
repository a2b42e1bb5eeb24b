"""The learning experiment, with an annotator and a trainer who only count."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from drawn import Drawn

from ihp_backend.data.catalogue import some_photos
from ihp_backend.data.sample import Sample
from ihp_backend.demo.project import plain_label_config
from ihp_backend.experiments.active_learning import OWN_LABELS, Relabelled, Round, measure, run
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.weights import save_parser
from ihp_backend.parts import IGNORE, LIP


class OneRow:
    schema = LIP
    names: Sequence[str] = ("row",)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        ids = ("background", "coat", "left-shoe", "face", "glove")
        labels = np.array([[*(LIP.names.index(name) for name in ids), IGNORE]], np.uint8)
        return Sample("row", np.zeros((1, 6, 3), np.uint8), labels)


def test_classes_become_the_projects_own_labels() -> None:
    data = Relabelled(OneRow())
    assert data.schema.names[20:] == ("Outfit", "Legwear", "Bare skin", "Head")
    assert data[0].labels.tolist() == [[0, 20, 21, 23, 22, IGNORE]]


def test_every_part_is_in_one_label_and_no_part_means_one() -> None:
    parts = [part for united in OWN_LABELS.values() for part in united]
    assert sorted(parts) == sorted(LIP.names[1:])
    config = LabelConfig.parse(plain_label_config(tuple(OWN_LABELS)))
    assert set(config.parts(LIP).values()) == {()}


def test_clicks_of_labels_that_the_weights_do_not_know(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_parser(HumanParser(ParserConfig(width=32, area=48 * 32)), tmp_path, {"version": "tiny"})
    test, check = Relabelled(some_photos(Drawn(), [0])), some_photos(Drawn(), [1, 2])
    found = measure(tmp_path, test, check, photos=0, version="tiny", outcome="before", seconds=0.0)
    assert 0 < found.clicks <= 8
    assert 0 <= found.miou_at_2 <= 1
    assert 0 <= found.base_check <= 1


class Annotators:
    def __init__(self) -> None:
        self.annotated: list[str] = []

    def annotate(self, photos: Relabelled) -> None:
        self.annotated += photos.names

    def train(self) -> dict[str, Any]:
        return {"state": "promoted", "reason": f"{len(self.annotated)} photos", "seconds": 3.0}


def test_rounds_are_annotated_trained_and_measured_in_turn(tmp_path: Path) -> None:
    annotators = Annotators()

    def measured(folder: Path, **fields: Any) -> Round:
        return Round(clicks=4.0 - fields["photos"], failures=0, miou_at_2=0.5, base_check=0.9, **fields)

    rounds = [Relabelled(some_photos(Drawn(), [0])), Relabelled(some_photos(Drawn(), [1, 2]))]
    found = run(annotators, rounds, measured, lambda: (f"v{len(annotators.annotated)}", tmp_path), tmp_path)  # type: ignore[arg-type]
    assert [(r.photos, r.version, r.clicks) for r in found] == [(0, "v0", 4.0), (1, "v1", 3.0), (3, "v3", 1.0)]
    assert found[2].outcome == "promoted: 3 photos"
    assert [r["photos"] for r in json.loads((tmp_path / "rounds.json").read_text())] == [0, 1, 3]
    assert (tmp_path / "rounds.png").stat().st_size > 5000
