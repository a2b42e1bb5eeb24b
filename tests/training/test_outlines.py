"""People of known outline are labelled inside of it, and only there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.cli import main
from ihp_backend.data.catalogue import open_data_set
from ihp_backend.data.sample import DataError, Sample
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.weights import save_parser
from ihp_backend.parts import CIHP, HELEN, IGNORE
from ihp_backend.training.outlines import fill_outline

PARTS = ("coat", "upper-clothes", "torso-skin")
FACE, HAIR = CIHP.names.index("face"), CIHP.names.index("hair")


def portrait() -> Sample:
    """A person with a soft edge; a nose, hair, and a spot that nobody could label."""
    alpha = np.zeros((120, 96), np.uint8)
    alpha[20:, 20:76] = 100
    alpha[24:, 24:72] = 255
    labels = np.zeros((120, 96), np.uint8)
    labels[40:50, 44:52] = HELEN.names.index("nose")
    labels[24:32, 30:66] = HELEN.names.index("hair")
    labels[60:64, 40:44] = IGNORE
    image = np.random.default_rng(2).integers(0, 255, (120, 96, 3), np.uint8)
    return Sample("one", image, labels, alpha=alpha)


@pytest.fixture(scope="module")
def untrained() -> HumanParser:
    torch.manual_seed(5)
    return HumanParser(ParserConfig(schema="cihp", width=32, area=64 * 64))


def check(labels: NDArray[np.uint8], sample: Sample) -> None:
    assert sample.alpha is not None
    names = HELEN.names
    nose, hair = sample.labels == names.index("nose"), sample.labels == names.index("hair")
    assert (labels[nose] == FACE).all()
    assert (labels[hair] == HAIR).all()
    assert (labels[sample.labels == IGNORE] == IGNORE).all()
    assert (labels[sample.alpha == 0] == 0).all()
    assert (labels[sample.alpha == 100] == IGNORE).all()
    inside = (sample.alpha == 255) & (sample.labels == 0)
    allowed = [CIHP.names.index(part) for part in PARTS]
    assert set(np.unique(labels[inside])) <= {*allowed, IGNORE}
    assert np.isin(labels[inside], allowed).mean() > 0.5


def test_inside_is_one_of_the_parts_and_outside_nobody(untrained: HumanParser) -> None:
    sample = portrait()
    same = {HELEN.names.index("nose"): "face", HELEN.names.index("hair"): "hair"}
    check(fill_outline(sample, Predictor(untrained, version="x"), PARTS, same).labels, sample)


def test_what_is_missing_is_said(untrained: HumanParser) -> None:
    predictor, sample = Predictor(untrained, version="x"), portrait()
    with pytest.raises(DataError, match=r"no part cape.*it has background"):
        fill_outline(sample, predictor, ("cape",), {})
    with pytest.raises(DataError, match=r"no opacity of its people; expected people/bare\.png"):
        fill_outline(Sample("bare", sample.image, sample.labels), predictor, PARTS, {})


def test_the_command_writes_a_data_set_to_train_on(untrained: HumanParser, tmp_path: Path) -> None:
    sample, data = portrait(), tmp_path / "faces"
    assert sample.alpha is not None
    for folder, array in (("images", sample.image), ("labels", sample.labels), ("people", sample.alpha)):
        (data / folder).mkdir(parents=True)
        Image.fromarray(array).save(data / folder / "one.png")
    classes = [{"id": i, "name": n, "colour": [i, 0, 0]} for i, n in enumerate(HELEN.names)]
    (data / "classes.json").write_text(json.dumps({"classes": classes, "flip_pairs": [[2, 3], [4, 5]]}))
    (data / "splits").mkdir()
    (data / "splits/train.txt").write_text("one\n")
    save_parser(untrained, tmp_path / "weights", {})
    words = [
        "fill",
        "--data",
        data,
        "--weights",
        tmp_path / "weights",
        "--out",
        tmp_path / "out",
        "--same",
        "face=nose",
    ]
    words += [word for part in PARTS for word in ("--part", part)]
    result = CliRunner().invoke(main, [str(word) for word in [*words, "--same", "hair=hair"]])
    assert result.exit_code == 0, result.output
    written = open_data_set(tmp_path / "out", "train")
    assert written.schema == CIHP
    check(written[0].labels, sample)
    assert written[0].objects is not None
    assert np.array_equal(written[0].objects, np.where(sample.labels == IGNORE, 0, sample.labels))
    assert written[0].alpha is not None
    assert written[0].image.shape == (120, 96, 3)
    bad = CliRunner().invoke(main, [str(word) for word in [*words, "--same", "hair=wig"]])
    assert bad.exit_code == 1
    assert "'wig' is no class of the data; it has background, face-skin" in bad.output
