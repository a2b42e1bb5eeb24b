"""A project that paints with bitmasks: clicked, corrected, learnt from."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import TOKEN, DiscModel, ImageHost, golden, png
from PIL import Image

from ihp_backend.label_studio.annotated_tasks import read_tasks
from ihp_backend.label_studio.bitmask import decode, encode
from ihp_backend.label_studio.connections import Connection
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.serving.runtime import Runtime
from ihp_backend.serving.sdk_adapter import InteractiveHumanParsing
from ihp_backend.settings import Settings

CLICK = golden("predict_click")
CONFIG = CLICK["label_config"].replace("BrushLabels", "BitmaskLabels")


@pytest.fixture
def model() -> DiscModel:
    return DiscModel()


@pytest.fixture
def parser(tmp_path: Path, model: DiscModel, image_host: ImageHost) -> InteractiveHumanParsing:
    settings = Settings.from_environment({"IHP_DATA_DIR": str(tmp_path), "IHP_ALLOW_PRIVATE_ADDRESSES": "true"})
    runtime = Runtime(settings, lambda: model)
    runtime.connections.remember(CLICK["project"], Connection(image_host.url, TOKEN))
    return InteractiveHumanParsing(project_id=CLICK["project"], label_config=CONFIG, runtime=runtime)


def bitmask(columns: slice, label: str, identifier: str) -> dict[str, Any]:
    mask = np.zeros((480, 640), bool)
    mask[:, columns] = True
    return {
        "id": identifier,
        "type": "bitmasklabels",
        "from_name": LabelConfig.parse(CONFIG).brush,
        "to_name": "img",
        "original_width": 640,
        "original_height": 480,
        "value": {"imageDataURL": encode(mask), "bitmasklabels": [label]},
    }


def test_a_click_is_answered_with_a_bitmask(parser: InteractiveHumanParsing) -> None:
    (answer,) = parser.predict(CLICK["tasks"], context=CLICK["params"]["context"])
    (region,) = answer["result"]
    assert region["type"] == "bitmasklabels"
    assert set(region["value"]) == {"imageDataURL", "bitmasklabels"}
    mask = decode(region["value"]["imageDataURL"], 480, 640)
    assert 1000 < mask.sum() < 1500  # the model's disc


def test_accepted_bitmasks_are_kept_free_and_corrected_in_place(
    parser: InteractiveHumanParsing, model: DiscModel
) -> None:
    context = CLICK["params"]["context"]
    (label,) = context["result"][0]["value"]["keypointlabels"]
    other = next(name for name in LabelConfig.parse(CONFIG).labels if name != label)
    task = CLICK["tasks"][0]
    drawn = [bitmask(slice(165, 640), other, "theirs")]
    beside = {**task, "drafts": [{"id": 1, "result": drawn, "created_at": "2026-11-23T00:33:59Z"}]}
    (answer,) = parser.predict([beside], context=context)
    assert np.array_equal(model.calls[-1]["masks"][other][0], np.arange(640) >= 165)
    (region,) = answer["result"]
    new = decode(region["value"]["imageDataURL"], 480, 640)
    assert new[:, :165].any()  # a disc around x = 160
    assert not new[:, 165:].any()

    drawn = [bitmask(slice(150, 170), label, "mine")]
    within = {**task, "id": 99, "drafts": [{"id": 2, "result": drawn, "created_at": "2026-11-23T00:33:59Z"}]}
    (answer,) = parser.predict([within], context=context)
    assert [region["id"] for region in answer["result"]] == ["mine"]


def test_annotated_bitmasks_train(image_host: ImageHost) -> None:
    config = LabelConfig.parse(CONFIG)
    regions = [bitmask(slice(0, 100), config.labels[1], "a")]
    task = {"id": 3, "data": {"image": "x"}, "annotations": [{"id": 1, "result": regions}]}
    reading = read_tasks([task], config, lambda url: png(), 10**6)
    assert reading.left_out == []
    (photo,) = reading.photos
    from_png = np.asarray(Image.open(io.BytesIO(photo.labels_png)))
    assert np.array_equal(np.unique(from_png[:, :100]), [2])
    assert not from_png[:, 100:].any()
