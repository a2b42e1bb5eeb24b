"""Setup, probes and passwords: how an application starts, what it remembers, and what it tells of itself."""

from __future__ import annotations

import base64
import logging
import stat
from pathlib import Path
from threading import Event
from time import perf_counter

import pytest
from backend import assert_click_works, closed_port, json_of, make, make_recorded, set_up
from fakes import TOKEN, DiscModel, ImageHost, golden
from flask.testing import FlaskClient

from ihp_backend.serving.application import create_app
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings


@pytest.fixture
def model() -> DiscModel:
    return DiscModel()


@pytest.fixture
def client(tmp_path: Path, model: DiscModel, image_host: ImageHost, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.setattr("ihp_backend.learning.triggers.WAIT_S", 10.0)  # the webhook tells what comes of an event
    return make_recorded(tmp_path, model, image_host)


def test_a_wrong_token_is_explained_in_the_log_without_showing_it(
    tmp_path: Path, image_host: ImageHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client, _ = make(tmp_path)
    wrong = "f" * 40
    set_up(client, image_host.url, token=wrong)
    answer = client.post("/predict", json=golden("predict_click"))
    assert json_of(answer)["results"][0]["result"] == []
    assert "401" in caplog.text
    assert wrong not in caplog.text
    set_up(client, image_host.url)
    assert_click_works(client)


def test_a_restart_remembers_what_setup_told(tmp_path: Path, image_host: ImageHost) -> None:
    client, _ = make(tmp_path)
    set_up(client, image_host.url)
    restarted, _ = make(tmp_path)
    assert_click_works(restarted)
    (record,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert stat.S_IMODE(record.stat().st_mode) == 0o600


def test_settings_win_over_setup(tmp_path: Path, image_host: ImageHost) -> None:
    client, _ = make(tmp_path, IHP_LABEL_STUDIO_URL=image_host.url, IHP_LABEL_STUDIO_TOKEN=TOKEN)
    set_up(client, f"http://127.0.0.1:{closed_port()}", token="e" * 40)
    assert_click_works(client)


@pytest.mark.parametrize("project", ["../x", "a/b", "", ".hidden", "x" * 200])
def test_setup_refuses_a_project_that_cannot_be_a_file(tmp_path: Path, project: str) -> None:
    client, _ = make(tmp_path)
    assert set_up(client, "http://127.0.0.1:8080", project=project).status_code == 400
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_setup_shows_what_is_wrong_with_a_label_config(tmp_path: Path) -> None:
    client, _ = make(tmp_path)
    body = golden("setup") | {"schema": '<View><Image name="i" value="$image"/></View>'}
    answer = client.post("/setup", json=body)
    assert answer.status_code == 400
    assert "KeyPointLabels" in json_of(answer)["detail"]
    assert "KeyPointLabels" in answer.status


def test_setup_answers_within_its_limit_while_the_model_loads(tmp_path: Path) -> None:
    go_on = Event()

    def slow() -> DiscModel:
        go_on.wait(10)
        return DiscModel()

    runtime = Runtime(Settings.from_environment({"IHP_DATA_DIR": str(tmp_path)}), slow, lambda: "discs-0")
    client = create_app(runtime=runtime).test_client()
    loading = runtime.preload()
    start = perf_counter()
    answer = client.post("/setup", json=golden("setup"))
    assert perf_counter() - start < 0.5
    assert answer.json == {"model_version": "discs-0", "label_set": "lip"}
    assert json_of(client.get("/health"))["ready"] is False
    assert client.get("/ready").status_code == 503
    assert client.get("/live").status_code == 200
    go_on.set()
    loading.join(10)
    assert json_of(client.post("/setup", json=golden("setup")))["model_version"] == "discs-1"
    assert client.get("/ready").status_code == 200
    assert json_of(client.get("/health"))["model_version"] == "discs-1"
    assert json_of(client.get("/versions"))["current"] == "discs-1"


def test_weights_that_do_not_load_are_reported_and_tried_again(tmp_path: Path, image_host: ImageHost) -> None:
    broken = [True]

    def load() -> DiscModel:
        if broken[0]:
            raise ValueError("no weights in there")
        return DiscModel()

    runtime = Runtime(
        Settings.from_environment({"IHP_DATA_DIR": str(tmp_path), "IHP_ALLOW_PRIVATE_ADDRESSES": "true"}),
        load,
    )
    client = create_app(runtime=runtime).test_client()
    answer = client.post("/predict", json=golden("predict_click"))
    assert answer.status_code == 503
    assert "no weights in there" in json_of(answer)["detail"]
    assert "no weights in there" in json_of(client.get("/health"))["error"]
    broken[0] = False
    assert client.post("/predict", json=golden("predict_click")).status_code == 200
    assert set_up(client, image_host.url).status_code == 200
    assert_click_works(client)


def test_a_password_guards_all_but_the_probes(tmp_path: Path, image_host: ImageHost) -> None:
    client, _ = make(tmp_path, IHP_BASIC_AUTH_USER="ls", IHP_BASIC_AUTH_PASSWORD="pässword")
    for path in ("/", "/health", "/versions", "/metrics", "/nothing"):
        assert client.get(path).status_code == 401
    refused = client.post("/predict", json=golden("predict_click"))
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Basic")
    assert json_of(refused)["error"] == "Unauthorized"
    for user, password in (("ls", "password"), ("", ""), ("ls", "pässword "), ("l", "s:pässword")):
        assert client.get("/health", auth=(user, password)).status_code == 401
    assert client.get("/health", headers={"Authorization": "Basic !"}).status_code == 401
    assert (
        client.get("/health", headers={"Authorization": "Bearer pässword".encode().decode("latin-1")}).status_code
        == 401
    )
    for code in ("utf-8", "latin-1"):  # as curl and browsers send it, and as Label Studio does
        good = base64.b64encode("ls:pässword".encode(code)).decode()
        assert client.get("/health", headers={"Authorization": f"Basic {good}"}).status_code == 200
    assert client.get("/live").status_code == 200
    assert client.get("/ready").status_code == 503


def test_the_way_to_label_studio_can_be_tried(tmp_path: Path, image_host: ImageHost) -> None:
    client, _ = make(tmp_path)
    assert json_of(client.get("/projects/1/connection"))["reachable"] is False
    set_up(client, image_host.url)
    number = golden("setup")["project"].partition(".")[0]
    found = json_of(client.get(f"/projects/{number}/connection"))
    assert found["hostname"] == image_host.url
    assert found["reachable"] is False
    assert "404" in found["reason"]  # this host has images only
    image_host.files["/api/current-user/whoami"] = b"{}"
    assert client.get(f"/projects/{number}/connection").json == {"hostname": image_host.url, "reachable": True}
