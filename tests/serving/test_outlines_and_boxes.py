"""Projects that answer with polygons, rectangles, or several kinds: clicked, corrected, pre-annotated, learnt."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fakes import TOKEN, DiscModel, ImageHost, golden, png
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.label_studio.annotated_tasks import read_tasks
from ihp_backend.label_studio.connections import Connection
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.label_studio.mask_values import decode
from ihp_backend.label_studio.regions import mask_regions, read_masks
from ihp_backend.serving.runtime import Runtime
from ihp_backend.serving.sdk_adapter import InteractiveHumanParsing
from ihp_backend.settings import Settings

CLICK = golden("predict_click")
CONTEXT = CLICK["params"]["context"]
(LABEL,) = CONTEXT["result"][0]["value"]["keypointlabels"]
POLYGONS = CLICK["label_config"].replace("BrushLabels", "PolygonLabels")
RECTANGLES = CLICK["label_config"].replace("BrushLabels", "RectangleLabels")
OTHER = next(name for name in LabelConfig.parse(POLYGONS).labels if name != LABEL)


@pytest.fixture
def model() -> DiscModel:
    return DiscModel()


@pytest.fixture
def parser_of(tmp_path: Path, model: DiscModel, image_host: ImageHost) -> Callable[[str], InteractiveHumanParsing]:
    settings = Settings.from_environment({"IHP_DATA_DIR": str(tmp_path), "IHP_ALLOW_PRIVATE_ADDRESSES": "true"})
    runtime = Runtime(settings, lambda: model)
    runtime.connections.remember(CLICK["project"], Connection(image_host.url, TOKEN))
    return lambda xml: InteractiveHumanParsing(project_id=CLICK["project"], label_config=xml, runtime=runtime)


def disc(x: int, y: int, radius: int) -> NDArray[np.bool_]:
    mask = np.zeros((480, 640), np.uint8)
    cv2.circle(mask, (x, y), radius, 1, -1)
    return mask.astype(bool)


def drafted(*regions: dict[str, Any], number: int = 1) -> dict[str, Any]:
    draft = {"id": 1, "result": list(regions), "created_at": "2026-11-23T00:33:59Z"}
    return {**CLICK["tasks"][0], "id": 1000 + number, "drafts": [draft]}


def covered(regions: list[dict[str, Any]]) -> NDArray[np.bool_]:
    own = [region for region in regions if not region.get("dynamic")]
    return np.logical_or.reduce([decode(region, 480, 640) for region in own])  # type: ignore[no-any-return]


def test_a_click_is_answered_with_a_polygon(parser_of: Callable[[str], InteractiveHumanParsing]) -> None:
    (answer,) = parser_of(POLYGONS).predict(CLICK["tasks"], context=CONTEXT)
    (region,) = answer["result"]
    assert region["type"] == "polygonlabels"
    assert set(region["value"]) == {"points", "closed", "polygonlabels"}
    assert 1150 < decode(region, 480, 640).sum() < 1350  # the model's disc has 1257
    (read,) = read_masks([region], LabelConfig.parse(POLYGONS), 480, 640)
    assert len(read.clicks) == 1  # what is read is what the clicks made


def test_a_click_replaces_all_pieces_of_a_mask(parser_of: Callable[[str], InteractiveHumanParsing]) -> None:
    config = LabelConfig.parse(POLYGONS)
    pieces = mask_regions(disc(160, 162, 25) | disc(300, 162, 15) | disc(350, 162, 10), LABEL, 1.0, config, "mine")
    assert [piece["id"] for piece in pieces] == ["mine", "mine.2", "mine.3"]
    (answer,) = parser_of(POLYGONS).predict([drafted(*pieces)], context=CONTEXT)
    ours = {region["id"]: region for region in answer["result"]}
    assert list(ours) == ["mine", "mine.2", "mine.3"]
    # A mask without clicks changes where it is clicked; what is not needed any more is removed.
    there = [r for r in answer["result"] if not r.get("dynamic")]
    assert (covered(there) & disc(300, 162, 14)).any()
    (answer,) = parser_of(POLYGONS).predict(
        [drafted(*(piece | {"origin": "prediction"} for piece in pieces), number=2)], context=CONTEXT
    )
    assert [bool(region.get("dynamic")) for region in answer["result"]] == [False, True, True]


def test_accepted_polygons_are_kept_free(parser_of: Callable[[str], InteractiveHumanParsing], model: DiscModel) -> None:
    theirs = np.zeros((480, 640), bool)
    theirs[:, 180:] = True
    drawn = mask_regions(theirs, OTHER, 1.0, LabelConfig.parse(POLYGONS), "theirs")
    (answer,) = parser_of(POLYGONS).predict([drafted(*drawn)], context=CONTEXT)
    assert np.array_equal(model.calls[-1]["masks"][OTHER], theirs)
    found = covered(answer["result"])
    assert found.any()
    assert not found[:, 182:].any()  # to the tolerance


def test_a_click_is_answered_with_the_box_of_its_mask(parser_of: Callable[[str], InteractiveHumanParsing]) -> None:
    (answer,) = parser_of(RECTANGLES).predict(CLICK["tasks"], context=CONTEXT)
    (region,) = answer["result"]
    assert region["type"] == "rectanglelabels"
    inside = decode(region, 480, 640)
    assert (inside.any(1).sum(), inside.any(0).sum()) == (40, 39)  # around the disc


def test_accepted_boxes_may_lie_over_each_other_and_are_no_masks(
    parser_of: Callable[[str], InteractiveHumanParsing], model: DiscModel
) -> None:
    config = LabelConfig.parse(RECTANGLES)
    around = np.ones((480, 640), bool)
    theirs = mask_regions(around, OTHER, 1.0, config, "theirs")
    mine = mask_regions(disc(160, 162, 40), LABEL, 1.0, config, "mine")
    (answer,) = parser_of(RECTANGLES).predict([drafted(*theirs, *mine)], context=CONTEXT)
    assert model.calls[-1]["masks"] == {}
    (region,) = answer["result"]
    assert region["id"] == "mine"
    assert decode(region, 480, 640).sum() == 39 * 40  # the box of the new mask, not of both
    guessed = [region | {"origin": "prediction"} for region in theirs]
    (answer,) = parser_of(RECTANGLES).predict([drafted(*guessed, number=2)], context=CONTEXT)
    assert [region["value"]["rectanglelabels"] for region in answer["result"]] == [[LABEL]]


@pytest.mark.parametrize("xml", [POLYGONS, RECTANGLES])
def test_an_opened_task_gets_regions_of_the_projects_kind(
    parser_of: Callable[[str], InteractiveHumanParsing], xml: str
) -> None:
    (answer,) = parser_of(xml).predict(CLICK["tasks"])
    assert answer["result"]
    assert {region["type"] for region in answer["result"]} == {LabelConfig.parse(xml).mask_type(LABEL)}


def test_polygons_are_learnt_from_and_rectangles_are_not() -> None:
    mask = disc(100, 60, 30)

    def read(xml: str) -> Any:
        regions = mask_regions(mask[:240, :320], LABEL, 1.0, LabelConfig.parse(xml))
        task = {"id": 3, "data": {"image": "x"}, "annotations": [{"id": 1, "result": regions}]}
        return read_tasks([task], LabelConfig.parse(xml), lambda url: png(320, 240), 10**6)

    (photo,) = read(POLYGONS).photos
    learnt = np.asarray(Image.open(io.BytesIO(photo.labels_png))) > 0
    assert (learnt ^ mask[:240, :320]).sum() < 0.05 * mask.sum()
    assert read(RECTANGLES).photos == []
    assert "rectangles only" in read(RECTANGLES).left_out[0]


@pytest.mark.parametrize(
    "value",
    [
        {"points": [[1, 2], [3, 4]]},
        {"points": [[1, 2], [3, float("nan")], [5, 6]]},
        {"points": [[1, 2], [3, 4], [5, 1e9]]},
        {},
    ],
)
def test_a_broken_polygon_stops_nobody(
    parser_of: Callable[[str], InteractiveHumanParsing], value: dict[str, Any]
) -> None:
    (region,) = mask_regions(disc(300, 300, 20), OTHER, 1.0, LabelConfig.parse(POLYGONS), "theirs")
    broken = {**region, "value": {**value, "polygonlabels": [OTHER]}}
    other_size = {**region, "id": "size", "original_width": 10}
    (answer,) = parser_of(POLYGONS).predict([drafted(broken, other_size)], context=CONTEXT)
    assert len(answer["result"]) == 1


def test_the_control_that_has_the_label_answers_and_of_several_the_one_that_says_most() -> None:
    def config(*controls: tuple[str, str, str]) -> LabelConfig:
        tags = "".join(
            f'<{tag} name="{name}" toName="i">'
            + "".join(f'<Label value="{label}"/>' for label in labels.split())
            + f"</{tag}>"
            for tag, name, labels in controls
        )
        return LabelConfig.parse(f'<View><Image name="i" value="$image"/>{tags}</View>')

    click = ("KeyPointLabels", "k", "Face Bag")
    shared = config(click, ("RectangleLabels", "r", "Face Bag"), ("PolygonLabels", "p", "Face Bag"))
    assert (shared.mask_type("Face"), shared.brush_of("Bag")) == ("polygonlabels", "p")
    shared = config(click, ("PolygonLabels", "p", "Face Bag"), ("BrushLabels", "b", "Face Bag Hat"))
    assert (shared.mask_type("Face"), shared.brush_of("Bag")) == ("brushlabels", "b")
    divided = config(click, ("RectangleLabels", "r", "Bag Table"), ("BitmaskLabels", "m", "Face"))
    assert [divided.mask_type(label) for label in ("Face", "Bag")] == ["bitmasklabels", "rectanglelabels"]
    assert "Table" not in divided.labels  # a box that nobody can click
