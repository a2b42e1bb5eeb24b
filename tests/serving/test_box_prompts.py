"""A box that is drawn around a part asks for it, as a click does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import TOKEN, DiscModel, DiscSession, ImageHost, golden

from ihp_backend.clicks import Click
from ihp_backend.geometry import Box
from ihp_backend.inference.prompts import Prompts
from ihp_backend.label_studio.connections import Connection
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.label_studio.regions import read_boxes
from ihp_backend.serving.runtime import Runtime
from ihp_backend.serving.sdk_adapter import InteractiveHumanParsing
from ihp_backend.settings import Settings

CLICK = golden("predict_click")
POINT = CLICK["params"]["context"]["result"][0]
(LABEL,) = POINT["value"]["keypointlabels"]
XML = CLICK["label_config"].replace(
    "</View>", f'<RectangleLabels name="around" toName="img"><Label value="{LABEL}"/></RectangleLabels></View>'
)
CONFIG = LabelConfig.parse(XML)


def drawn(**changes: Any) -> dict[str, Any]:
    """A box as Label Studio 1.23 sends it."""
    value = {"x": 25.0, "y": 25.0, "width": 12.5, "height": 25.0, "rotation": 0, "rectanglelabels": [LABEL]}
    size = {"original_width": 640, "original_height": 480, "image_rotation": 0}
    ends = {"from_name": "around", "to_name": "img", "type": "rectanglelabels", "origin": "manual"}
    return {**size, "value": value | changes.pop("value", {}), "id": "box", **ends, **changes}


@pytest.fixture
def model() -> DiscModel:
    return DiscModel()


@pytest.fixture
def ask(
    tmp_path: Path, model: DiscModel, image_host: ImageHost, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[dict[str, Any]]]:
    settings = Settings.from_environment({"IHP_DATA_DIR": str(tmp_path), "IHP_ALLOW_PRIVATE_ADDRESSES": "true"})
    runtime = Runtime(settings, lambda: model)
    runtime.connections.remember(CLICK["project"], Connection(image_host.url, TOKEN))
    parser = InteractiveHumanParsing(project_id=CLICK["project"], label_config=XML, runtime=runtime)

    def middles(self: DiscSession, prompts: Prompts) -> Prompts:
        found = [Click((b.left + b.right) / 2, (b.top + b.bottom) / 2, label) for label, b in prompts.boxes.items()]
        return Prompts([*prompts.clicks, *found])

    monkeypatch.setattr(DiscSession, "with_clicks_in_boxes", middles, raising=False)

    def asking(*context: dict[str, Any], draft: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
        task = CLICK["tasks"][0]
        if draft is not None:
            task = {**task, "id": 77, "drafts": [{"id": 1, "result": draft, "created_at": "2026-11-23T00:33:59Z"}]}
        (answer,) = parser.predict([task], context={"result": list(context)})
        found: list[dict[str, Any]] = answer["result"]
        return found

    return asking


def test_a_box_is_answered_with_a_mask_that_it_limits(
    ask: Callable[..., list[dict[str, Any]]], model: DiscModel
) -> None:
    (region,) = ask(drawn())
    assert region["type"] == "brushlabels"
    assert model.calls[-1]["clicks"] == [Click(200.0, 180.0, LABEL)]
    assert model.calls[-1]["boxes"] == {LABEL: Box(160, 120, 240, 240)}
    assert region["meta"]["ihp"]["clicks"][0][:3] == [200.0, 180.0, 1]  # later clicks go on from there


def test_a_click_is_limited_by_the_open_box_of_its_label(
    ask: Callable[..., list[dict[str, Any]]], model: DiscModel
) -> None:
    ask(POINT, draft=[drawn(), POINT])
    assert model.calls[-1]["boxes"] == {LABEL: Box(160, 120, 240, 240)}


def test_of_several_boxes_the_newest_counts_and_a_turned_one_is_the_box_around_it() -> None:
    other = drawn(value={"x": 50.0, "rotation": 90})
    assert read_boxes([drawn(), other], CONFIG, 480, 640) == {LABEL: Box(200, 120, 320, 200)}


@pytest.mark.parametrize(
    "changes",
    [
        {"value": {"width": 0}},
        {"value": {"x": float("nan")}},
        {"value": {"rectanglelabels": ["Nobody"]}},
        {"original_width": 10},
        {"to_name": "another"},
        {"from_name": "another"},
        {"type": "brushlabels"},
    ],
)
def test_what_is_no_box_that_asks_is_answered_with_nothing(
    ask: Callable[..., list[dict[str, Any]]], changes: dict[str, Any]
) -> None:
    assert ask(drawn(**changes)) == []


def test_boxes_of_a_control_that_is_not_smart_or_is_answered_with_ask_for_nothing() -> None:
    plain = LabelConfig.parse(XML.replace('name="around"', 'name="around" smart="false"'))
    assert read_boxes([drawn()], plain, 480, 640) == {}
    answers = LabelConfig.parse(CLICK["label_config"].replace("BrushLabels", "RectangleLabels"))
    assert read_boxes([drawn(from_name=answers.brush)], answers, 480, 640) == {}
