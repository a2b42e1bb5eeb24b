"""Regions there and back: recorded ones, hand-made ones, broken ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import golden
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.converter import brush
from numpy.typing import NDArray
from one_region import mask_region

from ihp_backend.clicks import Click
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.label_studio.regions import (
    RequestError,
    read_clicks,
    read_masks,
    region_id,
    working_results,
)

CONFIG = LabelConfig("image", "$image", "click", "mask", ("Face", "Hair"), ((), ()))


def keypoint(**changes: Any) -> dict[str, Any]:
    value = {"x": 25.0, "y": 50.0, "width": 0.3, "keypointlabels": ["Face"]} | changes.pop("value", {})
    return {"id": "k", "from_name": "click", "to_name": "image", "type": "keypointlabels", "value": value} | changes


def test_a_click_is_where_it_was_recorded() -> None:
    request = golden("predict_click")
    config = LabelConfig.parse(request["label_config"])
    (click,) = read_clicks(request["params"]["context"]["result"], config, 480, 640)
    recorded = request["params"]["context"]["result"][0]["value"]
    assert (click.x, click.y) == pytest.approx((recorded["x"] * 6.4, recorded["y"] * 4.8))
    assert click.is_positive


def test_a_negative_click_was_recorded() -> None:
    request = golden("predict_click_n3_negative")
    config = LabelConfig.parse(request["label_config"])
    clicks = read_clicks(request["params"]["context"]["result"], config, 480, 640)
    assert [click.is_positive for click in clicks][-1] is False


def test_percent_become_pixels_and_other_regions_are_passed_over() -> None:
    results = [
        keypoint(),
        keypoint(is_positive=False, value={"keypointlabels": ["Hair"]}),
        keypoint(from_name="another"),
        keypoint(value={"rle": [1, 2]}),  # an accepted suggestion, saved a second time under the keypoint's type
        {"type": "rectanglelabels"},
        {},
    ]
    expected = [Click(50.0, 50.0, "Face"), Click(50.0, 50.0, "Hair", is_positive=False)]
    assert read_clicks(results, CONFIG, 100, 200) == expected


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (keypoint(value={"x": -0.1}), "outside the image"),
        (keypoint(value={"y": 100.5}), "outside the image"),
        (keypoint(value={"x": float("nan")}), "expected a number"),
        (keypoint(value={"x": float("inf")}), "expected a number"),
        (keypoint(value={"x": "12"}), "expected a number"),
        (keypoint(value={"x": True}), "expected a number"),
        (keypoint(value={"y": None}), "y None"),
        (keypoint(value={"keypointlabels": ["Nose"]}), "'Nose'.*it has Face, Hair"),
        (keypoint(value={"keypointlabels": []}), "expected one label"),
        (keypoint(value={"keypointlabels": "Face"}), "expected one label"),
        (keypoint() | {"value": None}, "no `value`"),
    ],
)
def test_a_click_that_cannot_be_is_explained(result: dict[str, Any], expected: str) -> None:
    with pytest.raises(RequestError, match=expected):
        read_clicks([result], CONFIG, 100, 200)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 1000))
def test_a_mask_there_and_back(height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) > 0.5
    region = mask_region(mask, "Hair", 0.875, CONFIG)
    assert region["type"] == "brushlabels"
    assert (region["from_name"], region["to_name"]) == ("mask", "image")
    assert (region["original_height"], region["original_width"]) == (height, width)
    assert region["score"] == 0.875
    assert region["value"]["brushlabels"] == ["Hair"]
    (read,) = read_masks([region], CONFIG, height, width)
    assert (read.id, read.label) == (region["id"], "Hair")
    assert np.array_equal(read.mask, mask)
    alpha = np.asarray(brush.decode_rle(region["value"]["rle"])).reshape(height, width, 4)[..., 3]
    assert np.array_equal(alpha > 0, mask)


def test_regions_without_an_id_get_one_each_that_stays() -> None:
    """Tasks that were annotated through the API need none: "None" would be one id for all of them."""
    masks = [np.zeros((4, 5), bool) for _ in range(2)]
    masks[0][:2], masks[1][2:] = True, True
    drawn = [mask_region(mask, "Hair", 0.5, CONFIG) for mask in masks]
    for missing in (None, "", " ", False):
        nameless = [region | {"id": missing} for region in drawn]
        del nameless[0]["id"]
        read = read_masks([*nameless, drawn[0]], CONFIG, 4, 5)
        ids = [mask.id for mask in read]
        assert len(set(ids)) == 3
        assert "None" not in ids
        assert [mask.id for mask in read_masks(nameless, CONFIG, 4, 5)] == ids[:2], "a second answer replaces the first"
    assert [mask.id for mask in read_masks([drawn[0] | {"id": 7}], CONFIG, 4, 5)] == ["7"]


def test_what_a_region_does_not_tell_is_what_the_config_has() -> None:
    (drawn,) = [mask_region(np.ones((4, 5), bool), "Hair", 0.5, CONFIG)]
    for name in ("original_width", "original_height", "from_name", "to_name"):
        del drawn[name]
    (mask,) = read_masks([drawn], CONFIG, 4, 5)
    assert mask.mask.all()
    assert read_masks([drawn], CONFIG, 4, 6) == [], "the RLE is for another size"
    value = {"x": 50, "y": 50, "keypointlabels": ["Hair"]}
    for names in ({}, {"from_name": None, "to_name": None}, {"from_name": ""}):
        (click,) = read_clicks([{"type": "keypointlabels", "value": value} | names], CONFIG, 4, 5)
        assert click.part == "Hair"


def test_two_regions_of_one_id_are_two_regions() -> None:
    drawn = mask_region(np.ones((4, 5), bool), "Hair", 0.5, CONFIG)
    read = read_masks([drawn, drawn, drawn | {"value": {**drawn["value"], "brushlabels": ["Face"]}}], CONFIG, 4, 5)
    assert len({mask.id for mask in read}) == 3
    assert read[0].id == drawn["id"]


def test_keypoints_without_an_id_are_told_apart() -> None:
    one, other = keypoint(id=None), keypoint(id=None, value={"x": 26.0})
    assert region_id(one) == region_id(dict(one)) != region_id(other)
    assert region_id(keypoint(id="k")) == "k"


def test_regions_of_another_image_of_the_task_are_not_of_this_one() -> None:
    drawn = mask_region(np.ones((4, 5), bool), "Hair", 0.5, CONFIG)
    for region, count in (
        (drawn, 1),
        (drawn | {"item_index": 0}, 1),
        (drawn | {"to_name": "other"}, 0),
        (drawn | {"item_index": 1}, 0),
        (drawn | {"from_name": "other"}, 0),
    ):
        assert len(read_masks([region], CONFIG, 4, 5)) == count
    clicks = [keypoint(), keypoint(to_name="other"), keypoint(item_index=3)]
    assert len(read_clicks(clicks, CONFIG, 4, 5)) == 1


def test_a_mask_is_painted_with_the_brush_of_its_label() -> None:
    config = LabelConfig(
        "image",
        "$image",
        "click",
        "mask",
        ("Face", "Hair"),
        ((), ()),
        brushes=("mask", "hair"),
        trained_brushes=("mask", "hair"),
    )
    drawn = [mask_region(np.ones((4, 5), bool), label, 0.5, config) for label in ("Face", "Hair")]
    assert [region["from_name"] for region in drawn] == ["mask", "hair"]
    assert [mask.label for mask in read_masks(drawn, config, 4, 5)] == ["Face", "Hair"]
    # Another brush's mask of the same label is another thing.
    assert read_masks([drawn[1] | {"from_name": "mask"}], config, 4, 5) == []


def test_each_region_has_an_id_of_its_own_unless_one_is_given() -> None:
    mask = np.ones((2, 2), bool)
    ids = {mask_region(mask, "Face", 1, CONFIG)["id"] for _ in range(50)}
    assert len(ids) == 50
    assert mask_region(mask, "Face", 1, CONFIG, "abc")["id"] == "abc"


def test_a_region_that_cannot_be_read_is_left_out_alone(caplog: pytest.LogCaptureFixture) -> None:
    good = mask_region(np.eye(4, dtype=bool), "Face", 1, CONFIG)
    bad = [
        good | {"value": good["value"] | {"rle": good["value"]["rle"][:8]}},
        good | {"value": good["value"] | {"rle": "x"}},
        good | {"value": good["value"] | {"brushlabels": ["Nose"]}},
        good | {"value": None},
        good | {"original_width": 5},
    ]
    ignored = [good | {"type": "keypointlabels"}, good | {"from_name": "other"}]
    assert [m.id for m in read_masks([*bad, good, *ignored], CONFIG, 4, 4)] == [good["id"]]
    assert len(caplog.records) == len(bad)


def test_the_newest_draft_counts_before_annotations() -> None:
    def record(day: int, mark: str, **more: Any) -> dict[str, Any]:
        return {"updated_at": f"2026-11-{day:02d}T10:00:00Z", "result": [{"id": mark}], **more}

    task = {
        "drafts": [record(3, "old draft"), record(5, "draft")],
        "annotations": [record(9, "annotation"), record(11, "skipped", was_cancelled=True), record(10, "newest")],
    }
    assert working_results(task) == [{"id": "draft"}]
    assert working_results(task | {"drafts": []}) == []  # nobody knows which of two is open
    one = {"annotations": task["annotations"][:2]}
    assert working_results(one) == [{"id": "annotation"}]
    assert working_results({}) == []
    assert working_results({"drafts": None, "annotations": "x"}) == []


def square() -> NDArray[np.bool_]:
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    return mask


def test_until_the_first_draft_the_annotator_sees_the_prediction() -> None:
    guess = mask_region(square(), "Face", 0.4, CONFIG)
    other = mask_region(square(), "Face", 0.4, CONFIG)
    task: dict[str, Any] = {"predictions": [{"id": 3, "result": [guess]}, {"id": 2, "result": [other]}]}
    (mask,) = read_masks(working_results(task), CONFIG, *square().shape)
    assert (mask.id, mask.from_prediction, mask.score) == (guess["id"], True, 0.4)
    assert working_results(task | {"annotations": [{"id": 1, "was_cancelled": True, "result": []}]}) == []
    assert working_results(task | {"drafts": [{"id": 1, "result": []}]}) == []


def test_what_clicks_left_of_a_prediction_is_no_more_than_that_until_somebody_touches_it() -> None:
    left = {**mask_region(square(), "Face", 0.4, CONFIG, from_prediction=True), "origin": "manual"}
    (mask,) = read_masks([left], CONFIG, *square().shape)
    assert (mask.from_prediction, mask.clicks) == (True, ())
    more = square()
    more[0, 0] = True
    painted = left | {"value": mask_region(more, "Face", 0.4, CONFIG)["value"]}
    for touched in (painted, {**left, "meta": {}}, {**left, "meta": {"ihp": {"clicks": None}}}):
        (mask,) = read_masks([touched], CONFIG, *square().shape)
        assert not mask.from_prediction


def test_an_empty_mask_removes_its_region_when_it_is_accepted() -> None:
    """Label Studio removes regions that are ``dynamic`` when suggestions are accepted."""
    assert mask_region(np.zeros((4, 6), bool), "Face", 0.4, CONFIG, "r1")["dynamic"] is True
    assert "dynamic" not in mask_region(square(), "Face", 0.4, CONFIG, "r1")
