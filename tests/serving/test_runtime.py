"""What the threads of one process share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from fakes import DiscModel

from ihp_backend.clicks import Click
from ihp_backend.label_studio.connections import Connection
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.learning.registry import Status
from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.weights import save_parser
from ihp_backend.serving.runtime import ModelUnavailableError, Runtime
from ihp_backend.settings import Settings

OWN: dict[str, tuple[str, ...]] = {"tiny-1": (), "tiny-1+p1.001": ("Tattoo", "Left-hand")}


TOLD = Connection("http://told:8080", "told-token")


def make(tmp_path: Path, **environment: str) -> Runtime:
    runtime = Runtime(Settings.from_environment({"IHP_DATA_DIR": str(tmp_path), **environment}), DiscModel)
    runtime.connections.remember("1.2", TOLD)
    return runtime


def test_the_model_is_loaded_once_however_many_ask(tmp_path: Path) -> None:
    loads = []

    def load() -> DiscModel:
        loads.append(1)
        time.sleep(0.05)
        return DiscModel()

    runtime = Runtime(Settings.from_environment({"IHP_DATA_DIR": str(tmp_path)}), load)
    assert not runtime.is_ready
    with ThreadPoolExecutor(16) as pool:
        models = list(pool.map(lambda _: runtime.predictor(), range(16)))
    assert len(loads) == 1
    assert all(model is models[0] for model in models)
    assert runtime.is_ready


def test_a_failed_load_is_told_and_tried_again(tmp_path: Path) -> None:
    answers: Iterator[Exception | DiscModel] = iter([OSError("disk on fire"), OSError("disk on fire"), DiscModel()])

    def load() -> DiscModel:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    runtime = Runtime(Settings.from_environment({"IHP_DATA_DIR": str(tmp_path)}), load)
    runtime.preload().join(5)
    assert "disk on fire" in runtime.failure
    with pytest.raises(ModelUnavailableError, match="disk on fire"):
        runtime.predictor()
    assert runtime.predictor().version == "discs-1"
    assert runtime.failure == ""
    assert runtime.version() == "discs-1"


def test_the_version_is_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    go_on = Event()

    def slow() -> DiscModel:
        go_on.wait(10)
        return DiscModel()

    runtime = Runtime(Settings.from_environment({"IHP_DATA_DIR": str(tmp_path)}), slow)
    assert runtime.version().startswith("lip")  # from info.json of the shipped weights
    assert not runtime.is_ready
    go_on.set()
    gone = Settings.from_environment({"IHP_DATA_DIR": str(tmp_path), "IHP_WEIGHTS": "gone"})
    with pytest.raises(ModelUnavailableError, match="no weights 'gone'"):
        Runtime(gone).version()


def test_without_settings_a_project_is_where_its_setup_said(tmp_path: Path) -> None:
    runtime = make(tmp_path)
    assert runtime.connection("1.2") == TOLD
    assert runtime.connection("3.4") is None
    assert runtime.connection(None) is None


def test_settings_win(tmp_path: Path) -> None:
    runtime = make(tmp_path, IHP_LABEL_STUDIO_URL="http://mine:8080", IHP_LABEL_STUDIO_TOKEN="mine")
    for project in ("1.2", "3.4", None):
        told = "http://told:8080" if project == "1.2" else ""  # by that name it may call itself in addresses
        assert runtime.connection(project) == Connection("http://mine:8080", "mine", told)


def test_an_address_in_the_settings_takes_the_token_that_setup_told(tmp_path: Path) -> None:
    runtime = make(tmp_path, IHP_LABEL_STUDIO_URL="http://mine:8080")
    assert runtime.connection("1.2") == Connection("http://mine:8080", "told-token", told="http://told:8080")
    assert runtime.connection("3.4") == Connection("http://mine:8080", "")


def test_the_settings_token_never_goes_to_an_address_that_a_request_named(tmp_path: Path) -> None:
    runtime = make(tmp_path, IHP_LABEL_STUDIO_TOKEN="mine")
    assert runtime.connection("1.2") == TOLD
    assert runtime.connection("3.4") is None


def test_a_version_with_own_labels_is_served_whatever_the_label_config_has_become(tmp_path: Path) -> None:
    weights = {name: HumanParser(ParserConfig(width=8, area=64 * 64, custom_classes=own)) for name, own in OWN.items()}
    for name, parser in weights.items():
        save_parser(parser, tmp_path / name, {"version": name})
    runtime = Runtime(Settings(data_dir=tmp_path, weights=str(tmp_path / "tiny-1"), device="cpu"))
    learnt = "tiny-1+p1.001"
    with runtime.registry.draft("1.2") as draft:
        for file in ("model.safetensors", "info.json"):
            (draft / file).write_bytes((tmp_path / learnt / file).read_bytes())
        runtime.registry.add("1.2", learnt, draft, Status("promoted", "a test"))
    predictor, base = runtime.predictor("1.2"), runtime.predictor("3.4")
    assert (predictor.version, base.version) == (learnt, "tiny-1")
    assert predictor.schema.names == (*base.schema.names, "Tattoo", "Left-hand")
    xml = """<View><Image name="i" value="$image"/>
      <KeyPointLabels name="k" toName="i"><Label value="tattoo"/><Label value="Scar"/></KeyPointLabels>
      <BrushLabels name="b" toName="i"><Label value="Face"/><Label value="tattoo"/><Label value="Scar"/></BrushLabels>
      </View>"""  # Left-hand was removed, Scar added, Tattoo written differently
    labels = LabelConfig.parse(xml).parts(predictor.schema)
    assert labels == {"Face": ("face",), "tattoo": ("Tattoo",), "Scar": ()}
    image = np.zeros((48, 64, 3), np.uint8)
    for label in labels:
        answer = predictor.predict(image, [Click(20, 20, label)], labels=labels, wanted=[label], key="photo")
        assert answer.masks[label][20, 20]
    known = LabelConfig.parse(xml).parts(base.schema)
    own = base.predict(image, [Click(20, 20, "tattoo")], labels=known, wanted=["tattoo"])
    assert own.masks["tattoo"][20, 20], "another project, or before it has learnt, clicks alone define it"
