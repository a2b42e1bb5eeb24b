"""Requests that are larger than anybody's work: refused at once, with what was expected, or answered in time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from backend import assert_click_works, json_of, make, set_up
from fakes import DiscModel, ImageHost, golden
from flask.testing import FlaskClient
from one_region import mask_region

from ihp_backend.label_studio import predict_request, regions
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.serving import sdk_adapter

CONFIG = LabelConfig.parse(golden("predict_click")["label_config"])


@pytest.fixture
def client(tmp_path: Path, image_host: ImageHost) -> Iterator[FlaskClient]:
    made, _ = make(tmp_path, DiscModel())
    assert set_up(made, image_host.url).status_code == 200
    yield made
    assert_click_works(made)


def ask(client: FlaskClient, clicks: list[dict[str, Any]], draft: list[dict[str, Any]]) -> Any:
    body = golden("predict_click")
    body["params"]["context"]["result"] = clicks
    body["tasks"][0]["drafts"] = [{"id": 1, "result": draft, "updated_at": "2026-11-23T00:33:59Z"}]
    return client.post("/predict", json=body)


def keypoints(count: int, label: str = "Building") -> list[dict[str, Any]]:
    (recorded,) = golden("predict_click")["params"]["context"]["result"]
    value = recorded["value"] | {"keypointlabels": [label]}
    return [recorded | {"id": f"{label[:9]}{i}", "value": value | {"x": i % 100}} for i in range(count)]


def accepted(count: int) -> list[dict[str, Any]]:
    mask = np.zeros((480, 640), bool)
    mask[:20, :20] = True
    region = mask_region(mask, "Road", 1.0, CONFIG)
    return [region | {"id": f"r{i}"} for i in range(count)]


def test_a_config_of_thousands_of_labels_is_read_in_time() -> None:
    labels = "".join(f'<Label value="label {i}"/>' for i in range(8_000))
    config = (
        '<View><Image name="image" value="$image"/><KeyPointLabels name="click" toName="image">'
        f'<Label value="label 7" predicted_values="face"/>{labels}</KeyPointLabels>'
        f'<BrushLabels name="mask" toName="image">{labels}</BrushLabels></View>'
    )
    began = monotonic()
    read = LabelConfig.parse(config)
    assert monotonic() - began < 5, "it takes 15 s if each label is looked for among all"
    assert len(read.labels) == 8_000
    assert read.predicted_values[6:9] == ((), ("face",), ())


def test_at_most_so_many_keypoints_are_open(client: FlaskClient) -> None:
    assert ask(client, keypoints(150), keypoints(50, "Road")).status_code == 200
    answer = ask(client, keypoints(150), keypoints(51, "Road"))
    assert answer.status_code == 400
    assert "201 keypoints are open; expected at most 200" in answer.json["detail"]


def test_at_most_so_many_regions_are_drawn(client: FlaskClient) -> None:
    draft = [{"id": str(i), "type": "rectanglelabels"} for i in range(2_001)]
    answer = ask(client, keypoints(1), draft)
    assert answer.status_code == 400
    assert "the draft has 2001 regions; expected at most 2000" in answer.json["detail"]
    assert ask(client, keypoints(1), draft[1:]).status_code == 200


def test_masks_that_would_not_fit_into_memory_are_not_read(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "MOST_MASK_BYTES", 3 * 640 * 480)
    assert ask(client, keypoints(1), accepted(3)).status_code == 200
    answer = ask(client, keypoints(1), accepted(4))
    assert answer.status_code == 400
    assert "more than 3 masks of 640x480" in answer.json["detail"]


def test_masks_that_take_longer_than_any_annotators_are_not_read(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "MOST_SECONDS", 0.0)
    answer = ask(client, keypoints(1), accepted(2))
    assert answer.status_code == 400
    assert "take over 0 s to read" in answer.json["detail"]


def asked_to_predict(client: FlaskClient, count: int) -> Any:
    body = golden("predict_task_opened")
    (task,) = body["tasks"]
    return client.post("/predict", json=body | {"tasks": [task | {"id": number} for number in range(count)]})


def test_at_most_so_many_tasks_are_predicted_at_once(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    most = predict_request.MOST_TASKS
    assert asked_to_predict(client, most).status_code == 200
    monkeypatch.delattr("ihp_backend.serving.answering.Answering.answer")
    answer = asked_to_predict(client, most + 1)
    assert answer.status_code == 400
    assert f"the request has {most + 1} tasks; expected at most {most}" in answer.json["detail"]
    monkeypatch.undo()


def test_tasks_that_take_longer_than_anybody_waits_are_not_answered(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk_adapter, "MOST_S", -1.0)
    answer = asked_to_predict(client, 3)
    assert answer.status_code == 400
    assert "0 of 3 tasks took -1 s; send fewer at once" in answer.json["detail"]
    monkeypatch.undo()


def test_what_is_remembered_is_short(client: FlaskClient) -> None:
    (click,) = keypoints(1)
    assert ask(client, [click | {"id": "k" * 101}], []).status_code == 400
    (region,) = accepted(1)
    kept, left_out = (ask(client, [click], [region | {"id": "r" * n}]).json["results"][0] for n in (100, 101))
    assert kept["score"] == left_out["score"]  # answered, both
    answer = client.post("/setup", json=golden("setup") | {"hostname": "http://" + "a" * 10_000})
    assert answer.status_code == 400
    assert "10000 characters" in json_of(answer)["detail"]


def test_a_message_does_not_repeat_all_that_came(client: FlaskClient) -> None:
    answer = ask(client, keypoints(1, "x" * 1_000_000), [])
    assert answer.status_code == 400
    assert "has the label 'xxx" in answer.json["detail"]
    assert len(answer.data) < 2_000
