"""`ihp predict`: files that fit together, and errors that teach."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface.interface import LabelInterface
from numpy.typing import NDArray
from one_region import mask_region
from PIL import Image

from ihp_backend.cli import main
from ihp_backend.commands.predict import shipped_config
from ihp_backend.data.synthetic import draw_person
from ihp_backend.parts import SCHEMAS, Part, Schema

LABEL_CONFIGS = Path(__file__).parents[2] / "label_config"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "me.png"
    Image.fromarray(draw_person(np.random.default_rng(3), 300, 200)[0]).save(path)
    return path


def run(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["predict", *(str(word) for word in words)])
    return result.exit_code, result.output


def read(path: Path, flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8]:
    found = cv2.imread(str(path), flags)
    assert found is not None, f"{path} is no image"
    return found.astype(np.uint8)


def test_clicked_parts_are_cut_out(photo: Path, tmp_path: Path) -> None:
    clicks = ["--click", "FACE,100,40", "--click", "upper clothes,100,110", "--click", "-face,5,5"]
    code, output = run(photo, *clicks, "--out", tmp_path)
    assert code == 0, output
    (task,) = json.loads((tmp_path / "regions.json").read_text())
    (prediction,) = task["predictions"]
    assert prediction["model_version"].startswith("lip")
    regions = task["meta"]["regions"]
    assert {r["label"] for r in regions} == {"face", "upper-clothes"}
    for region, result in zip(regions, prediction["result"], strict=True):
        assert result["value"]["brushlabels"] == [region["label"].capitalize()]
        mask = read(tmp_path / f"{region['label']}.png", cv2.IMREAD_GRAYSCALE)
        assert set(np.unique(mask)) == {0, 255}
        assert (mask > 0).sum() == region["area_px"]
        left, top, right, bottom = region["box_px"]
        assert (mask[top:bottom, left:right] > 0).sum() == region["area_px"]
        rle = result["value"]["rle"]
        assert np.array_equal(np.asarray(brush.decode_rle(rle)).reshape(300, 200, 4)[..., 3], mask)
    overlay = read(tmp_path / "overlay.png")
    assert max(overlay.shape) >= 1000
    assert read(tmp_path / "face.png")[40, 100, 0] == 255


def test_without_clicks_all_that_is_seen(photo: Path, tmp_path: Path) -> None:
    code, output = run(photo, "--out", tmp_path)
    assert code == 0, output
    (task,) = json.loads((tmp_path / "regions.json").read_text())
    assert len(task["meta"]["regions"]) >= 2


@pytest.mark.parametrize("name", SCHEMAS)
def test_label_studio_knows_the_regions_of_every_schema_under_its_shipped_config(name: str) -> None:
    """As the SDK checks predictions before an import."""
    schema = SCHEMAS[name]
    config, names = shipped_config(schema)
    assert set(names) == set(schema.names[1:])
    mask = np.eye(4, dtype=bool)
    regions = [mask_region(mask, label, 0.5, config) for label in names.values()]
    interface = LabelInterface((LABEL_CONFIGS / f"{name.replace('-', '_')}.xml").read_text())
    prediction = {"result": regions, "score": 0.5, "model_version": "v"}
    assert interface.validate_prediction(prediction, return_errors=True) == []


def test_a_schema_without_a_shipped_config_keeps_its_names() -> None:
    schema = Schema("open", "one's own", (Part("background", "#000000"), Part("left-glove", "#ff0000")))
    assert shipped_config(schema)[1].get("left-glove", "left-glove") == "left-glove"


def test_a_part_that_the_schema_does_not_know(photo: Path, tmp_path: Path) -> None:
    code, output = run(photo, "--click", "tattoo,100,110", "--out", tmp_path)
    assert code == 0, output
    assert read(tmp_path / "tattoo.png")[110, 100, 0] == 255


def test_a_part_that_is_nowhere_gives_no_file(photo: Path, tmp_path: Path) -> None:
    code, output = run(photo, "--click=-tattoo,100,110", "--out", tmp_path)
    assert code == 0, output
    assert not (tmp_path / "tattoo.png").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--click", "face"], "PART,X,Y"),
        (["--click", "face,a,b"], "PART,X,Y"),
        (["--click", "face,900,1"], "200x300"),
        (["--click", "face,nan,1"], "200x300"),
        (["--click", "../x,1,1"], "part's name"),
        (["--weights", "none-such"], "none-such"),
        (["--click", "overlay,1,1"], "part's name"),
        (["--click", "..,1,1"], "part's name"),
        (["--device", "cuda:7"], "GPU"),
        (["--device", "foo"], "'foo'"),
    ],
)
def test_what_is_wrong_is_said(photo: Path, tmp_path: Path, words: list[str], expected: str) -> None:
    code, output = run(photo, *words, "--out", tmp_path / "out")
    assert code != 0
    assert expected in output
    assert "Traceback" not in output
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("hello")
    code, output = run(tmp_path / "x.jpg", "--out", tmp_path / "out")
    assert code == 1
    assert "not an image" in output
