"""From a submitted annotation to what the next click on its label means, over the events that Label Studio sends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import sleep
from typing import Any

import numpy as np
import pytest
from fakes import TOKEN, DiscModel, DiscSession, ImageHost, golden
from label_studio_sdk.converter.brush import encode_rle
from numpy.typing import NDArray
from waiting import eventually

from ihp_backend.inference.prompts import Prompts
from ihp_backend.label_studio.connections import Connection
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import LIP
from ihp_backend.serving.answering import load_photo
from ihp_backend.serving.runtime import Runtime
from ihp_backend.serving.sdk_adapter import InteractiveHumanParsing
from ihp_backend.settings import Settings

P = "1.1795392500"
COAT, PANTS = LIP.names.index("coat"), LIP.names.index("pants")


class Session(DiscSession):
    """Sees a coat in the left half and pants in the right one."""

    def parse(self, prompts: Prompts, previous: Any = None) -> Any:
        height, width = self.image.shape[:2]
        parts = np.full((height, width), PANTS, np.uint8)
        parts[:, : width // 2] = COAT

        @dataclass
        class Parse:
            def label_map(self) -> NDArray[np.uint8]:
                return parts

        return Parse()

    def predict(self, prompts: Prompts) -> Any:
        self.model.calls.append({"labels": dict(prompts.labels or {})})
        return super().predict(prompts)


class Model(DiscModel):
    def open(self, image: NDArray[np.uint8], key: str | None = None) -> Session:
        return Session(self, image, key)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def runtime(tmp_path: Path, model: Model, image_host: ImageHost) -> Runtime:
    settings = Settings.from_environment(
        {"IHP_DATA_DIR": str(tmp_path), "IHP_ALLOW_PRIVATE_ADDRESSES": "true", "IHP_TRAIN_AFTER": "0"}
    )
    runtime = Runtime(settings, lambda: model)
    runtime.connections.remember(P, Connection(image_host.url, TOKEN, confirmed=True))
    return runtime


def event(name: str, columns: slice | None = slice(0, 320), label: str = "Building", **changes: Any) -> Any:
    body = golden(f"webhook_{name}")
    if "annotation" in body:
        rgba = np.zeros((480, 640, 4), np.uint8)
        if columns is not None:
            rgba[:, columns] = 255
        value = {"format": "rle", "rle": encode_rle(rgba.ravel()), "brushlabels": [label]}
        body["annotation"]["result"] = [body["annotation"]["result"][0] | {"value": value}]
        body["annotation"] |= changes
    return body["action"], body


def meaning(runtime: Runtime, label: str = "Building") -> tuple[str, ...]:
    config = LabelConfig.parse(golden("webhook_annotation_created")["project"]["label_config"])
    return runtime.meanings.parts(P, config, LIP)[label]


def test_the_next_click_on_a_label_knows_what_was_accepted(runtime: Runtime, model: Model) -> None:
    click = golden("predict_click")
    parser = InteractiveHumanParsing(project_id=P, label_config=click["label_config"], runtime=runtime)
    parser.predict(click["tasks"], context=click["params"]["context"])
    assert model.calls[0]["labels"]["Building"] == ()
    runtime.take_event(*event("annotation_created"))
    eventually(lambda: meaning(runtime) == ("coat",))
    model.calls.clear()
    parser = InteractiveHumanParsing(project_id=P, label_config=click["label_config"], runtime=runtime)
    parser.predict(click["tasks"], context=click["params"]["context"])
    assert model.calls[0]["labels"]["Building"] == ("coat",)


def test_a_change_counts_instead_and_a_deletion_or_a_skip_forgets(runtime: Runtime) -> None:
    runtime.take_event(*event("annotation_created"))
    eventually(lambda: meaning(runtime) == ("coat",))
    runtime.take_event(*event("annotation_updated", slice(320, 640)))
    eventually(lambda: meaning(runtime) == ("pants",))
    runtime.take_event(*event("annotations_deleted"))
    eventually(lambda: meaning(runtime) == ())
    runtime.take_event(*event("annotation_created"))
    eventually(lambda: meaning(runtime) == ("coat",))
    runtime.take_event(*event("annotation_updated", was_cancelled=True))
    eventually(lambda: meaning(runtime) == ())


@pytest.mark.parametrize("broken", ["photo", "mask", "size", "config", "project", "stranger"])
def test_what_cannot_be_read_is_left_and_the_next_is_read(
    runtime: Runtime, image_host: ImageHost, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    action, body = event("annotation_created")
    region = body["annotation"]["result"][0]
    if broken == "photo":
        body["task"]["data"]["image"] = "/data/upload/1/text.png"
    elif broken == "mask":
        region["value"]["rle"] = [1, 2, 3]
    elif broken == "size":
        region["original_width"] = 641
    elif broken == "config":
        body["project"]["label_config"] = "<View"
    elif broken == "project":
        body["project"]["id"] = "x"
    else:
        body["project"]["id"] = 77
    runtime.take_event(action, body)
    runtime.take_event(*event("annotation_updated", slice(320, 640)))
    eventually(lambda: meaning(runtime) == ("pants",))
    if broken in ("photo", "mask", "size", "config"):
        assert "does not tell what its labels mean" in caplog.text
    assert not runtime.meanings.parts(
        "77.1795392500", LabelConfig.parse(event("annotation_created")[1]["project"]["label_config"]), LIP
    )["Building"]


def test_of_events_that_come_faster_than_they_are_read_few_wait(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, loaded = Event(), []
    load = load_photo

    def load_slowly(*args: Any) -> Any:
        loaded.append(args)
        assert go.wait(10)
        return load(*args)

    monkeypatch.setattr("ihp_backend.serving.meaning_reader.load_photo", load_slowly)
    for number in range(1, 40):
        runtime.take_event(*event("annotation_created", id=number))
    go.set()
    eventually(lambda: meaning(runtime) == ("coat",))
    runtime.take_event(*event("annotation_updated", slice(320, 640), id=1))
    eventually(lambda: len(loaded) >= 4)
    sleep(0.2)
    assert len(loaded) <= 5
