"""The model under the ML SDK's own servers: 1.0.9's, which is installed, and 2.x's, in the shape of ``sdk_2``."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from backend import json_of
from fakes import TOKEN, DiscModel, ImageHost, golden
from flask.testing import FlaskClient
from label_studio_ml.api import init_app
from label_studio_ml.model import LabelStudioMLManager
from sdk_2 import make_base, make_server
from versions import add

from ihp_backend.serving import sdk_adapter
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings

CLICK = golden("predict_click")
PROJECT = CLICK["project"]
SETUP = golden("setup") | {"project": PROJECT, "schema": CLICK["label_config"], "extra_params": None}


@pytest.fixture
def runtime(tmp_path: Path, image_host: ImageHost) -> Runtime:
    environment = {
        "IHP_DATA_DIR": str(tmp_path),
        "IHP_TRAINER": "false",
        "IHP_LABEL_STUDIO_URL": image_host.url,
        "IHP_LABEL_STUDIO_TOKEN": TOKEN,
    }
    settings = Settings.from_environment(environment)
    return Runtime(settings, DiscModel, lambda: "discs-1", lambda folder: DiscModel(folder.name))


@pytest.fixture
def server_of_1_0_9(runtime: Runtime, tmp_path: Path) -> Iterator[FlaskClient]:
    app = init_app(sdk_adapter.InteractiveHumanParsing, model_dir=str(tmp_path / "sdk"), runtime=runtime)
    yield app.test_client()
    LabelStudioMLManager.init_kwargs, LabelStudioMLManager._current_model = {}, {}


@pytest.fixture
def server_of_2(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    sdk = ModuleType("label_studio_ml.model")
    sdk.LabelStudioMLBase = make_base()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", sdk)
    spec = importlib.util.spec_from_file_location("adapter_on_2", sdk_adapter.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "shared_runtime", lambda: runtime)
    return make_server(module.InteractiveHumanParsing).test_client()


@pytest.fixture(params=["server_of_1_0_9", "server_of_2"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def click(server: FlaskClient) -> dict[str, Any]:
    answer = server.post("/predict", json=golden("predict_click"))
    assert answer.status_code == 200, answer.text
    (item,) = json_of(answer)["results"]
    return dict(item)


def test_a_click_is_answered(server: FlaskClient) -> None:
    assert server.post("/setup", json=SETUP).status_code == 200
    (region,) = click(server)["result"]
    assert region["value"]["brushlabels"] == ["Building"]


def test_the_version_that_was_promoted_for_the_project_answers(server: FlaskClient, runtime: Runtime) -> None:
    server.post("/setup", json=SETUP)
    assert click(server)["model_version"] == "discs-1"
    other, name = add(runtime.registry, "11.1795392500"), add(runtime.registry, PROJECT)
    server.post("/setup", json=SETUP)
    assert click(server)["model_version"] == name != other


def test_setup_tells_the_version_that_answers(server_of_2: FlaskClient, runtime: Runtime) -> None:
    """1.0.9's server tells a word of its own, ``INITIAL``, whatever the model is."""
    told = [json_of(server_of_2.post("/setup", json=SETUP))["model_version"]]
    name = add(runtime.registry, PROJECT)
    told.append(json_of(server_of_2.post("/setup", json=SETUP))["model_version"])
    assert told == ["discs-1", name]
    assert click(server_of_2)["model_version"] == name


@pytest.mark.parametrize("context", [None, {}, "missing"])
def test_a_task_that_is_opened_has_no_context_in_any_spelling(server: FlaskClient, context: Any) -> None:
    server.post("/setup", json=SETUP)
    params = {"login": None, "password": None} | ({} if context == "missing" else {"context": context})
    answer = server.post("/predict", json=golden("predict_click") | {"params": params})
    assert answer.status_code == 200, answer.text
    assert {r["value"]["brushlabels"][0] for r in json_of(answer)["results"][0]["result"]} >= {"Building", "Road"}


def test_no_project_is_no_project_of_that_name(server_of_2: FlaskClient, runtime: Runtime) -> None:
    """Its server writes a missing project as text."""
    body = golden("predict_click")
    del body["project"], body["tasks"][0]["project"]
    assert json_of(server_of_2.post("/predict", json=body))["results"][0]["model_version"] == "discs-1"
    assert "None" not in runtime.connections.projects()


def test_an_event_reaches_the_project(server_of_2: FlaskClient, runtime: Runtime, image_host: ImageHost) -> None:
    event = golden("webhook_start_training") | {"project": golden("webhook_annotation_created")["project"]}
    image_host.files[f"/api/projects/{event['project']['id']}/"] = json.dumps(event["project"]).encode()
    assert json_of(server_of_2.post("/webhook", json=event))["result"]["status"] in ("queued", "accepted")


@pytest.mark.parametrize(
    ("given", "kept", "expected"),
    [
        ("1", ["1.100"], "1.100"),
        (1, ["1.100"], "1.100"),
        ("1.200", ["1.100"], "1.200"),
        ("1", ["1.99", "1.100", "11.300", "2.400"], "1.100"),
        ("1", [], "1"),
        ("None", ["1.100"], None),
        ("", ["1.100"], None),
        (None, [], None),
    ],
)
def test_a_project_is_found_by_its_number(runtime: Runtime, given: Any, kept: list[str], expected: str | None) -> None:
    for project in kept:
        add(runtime.registry, project)
    assert runtime.project_of(given) == expected
