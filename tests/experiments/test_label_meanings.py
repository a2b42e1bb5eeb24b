"""The measure of learnt meanings, on weights whose parse is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from drawn import Drawn

from ihp_backend.data.catalogue import some_photos
from ihp_backend.experiments.active_learning import OWN_LABELS, Relabelled
from ihp_backend.experiments.label_meanings import measure, overlaps_of
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.weights import save_parser
from ihp_backend.parts import LIP


def predictor_that_sees(part: str, folder: Path) -> Predictor:
    """Weights that take every place for one part."""
    torch.manual_seed(0)
    parser = HumanParser(ParserConfig(width=32, area=48 * 32))
    parser.prior[LIP.names.index(part)] = 1000.0
    save_parser(parser, folder, {"version": "tiny"})
    return Predictor.load(folder, device="cpu")


def test_true_masks_are_compared_with_what_the_weights_see(tmp_path: Path) -> None:
    predictor = predictor_that_sees("coat", tmp_path)
    data = Relabelled(Drawn())
    found = overlaps_of(predictor, data, 0)
    labels = data[0].labels
    for label in OWN_LABELS:
        true = float(np.mean(labels == data.schema.names.index(label)))
        assert abs(found.areas.get(label, 0.0) - true) < 0.02
        assert abs(found.shared.get(label, {}).get("coat", 0.0) - true) < 0.02
    assert set(found.seen) == {"coat"}


def test_nothing_accepted_means_nothing_and_each_count_is_measured_apart(tmp_path: Path) -> None:
    predictor = predictor_that_sees("coat", tmp_path)
    data = Drawn()
    accepted, test = Relabelled(some_photos(data, [1, 2])), Relabelled(some_photos(data, [0]))
    none, two = measure(predictor, accepted, test, (0, 2), cap=2)
    assert (none.photos, two.photos) == (0, 2)
    assert set(none.means.values()) == {()}
    assert 0 < none.clicks <= 2
    assert set(none.miou) == {"0", "1", "2"}
