"""The HTTP application with a fake model, and its recorded click."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from fakes import TOKEN, DiscModel, ImageHost, golden
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ihp_backend.serving.application import create_app
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings


def make(tmp_path: Path, model: DiscModel | None = None, **environment: str) -> tuple[FlaskClient, Runtime]:
    settings = Settings.from_environment(
        {"IHP_DATA_DIR": str(tmp_path), "IHP_ALLOW_PRIVATE_ADDRESSES": "true", **environment}
    )
    runtime = Runtime(settings, lambda: model or DiscModel())
    return create_app(runtime=runtime).test_client(), runtime


def set_up(client: FlaskClient, url: str, token: str = TOKEN, project: str = "1.1795392500") -> Any:
    return client.post("/setup", json=golden("setup") | {"hostname": url, "access_token": token, "project": project})


def make_known(data_dir: Path, *projects: str) -> None:
    """Lets events of projects be heeded without a word of Label Studio: they have versions."""
    for project in projects:
        (data_dir / "versions" / project).mkdir(parents=True, exist_ok=True)


def json_of(response: TestResponse) -> Any:
    """Returns what an answer says; an answer that is no JSON is an error."""
    return json.loads(response.data)


def with_image(url: str) -> dict[str, Any]:
    body: dict[str, Any] = golden("predict_click")
    body["tasks"][0]["data"]["image"] = url
    return body


def assert_click_works(client: FlaskClient) -> None:
    answer = client.post("/predict", json=golden("predict_click"))
    assert answer.status_code == 200
    (item,) = json_of(answer)["results"]
    assert item["result"], "the next good request was not answered"


CLICKS = [
    "predict_click",
    "predict_click_n2",
    "predict_click_n2_with_draft",
    "predict_click_n3_negative",
    "predict_click_with_draft",
]
"""Recorded requests, each with a click."""


def make_recorded(tmp_path: Path, model: DiscModel, image_host: ImageHost) -> FlaskClient:
    """A backend that has been set up for the projects of the recorded clicks."""
    made, _ = make(tmp_path, model, IHP_MAX_IMAGE_PIXELS="1000000")
    for project in {golden(name)["project"] for name in CLICKS}:
        make_known(tmp_path, project)
        assert set_up(made, image_host.url, project=project).status_code == 200
    return made


def closed_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
