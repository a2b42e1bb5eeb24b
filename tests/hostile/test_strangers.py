"""Without a password: pages of other names, strangers who tell another Label Studio, invented projects."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from backend import make, set_up
from fake_label_studio import LEGACY, FakeLabelStudio
from fakes import DiscModel, golden
from flask.testing import FlaskClient

from ihp_backend.label_studio.connections import Connection

PROJECT = golden("setup")["project"]
OTHERS = [
    "evil.example",
    "evil.example:9090",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil",
    "",
    "a@localhost",
]
OWN = ["localhost", "LOCALHOST:9090", "127.0.0.1", "127.0.0.1:9090", "[::1]:9090", "app.localhost", "192.168.1.7:9090"]
ASKED: list[tuple[str, str, Any]] = [
    ("POST", "/setup", golden("setup") | {"hostname": "http://evil.example", "access_token": "x"}),
    ("POST", "/webhook", golden("webhook_start_training")),
    ("POST", "/predict", golden("predict_click")),
    ("GET", "/versions", None),
    ("GET", "/metrics", None),
    ("GET", "/health", None),
]


@pytest.mark.parametrize(("method", "route", "body"), ASKED)
def test_a_page_of_another_name_is_refused(tmp_path: Path, method: str, route: str, body: Any) -> None:
    client, _ = make(tmp_path)
    for host in OTHERS:
        headers = [{"Host": host}, {"Host": "localhost", "Origin": f"http://{host}"}]
        for given in headers if host else headers[:1]:
            answer: Any = client.open(route, method=method, json=body, headers=given)
            assert answer.status_code == 403, given
            assert "IHP_SERVED_HOSTS" in answer.json["detail"]
    elsewhere = {"Host": "127.0.0.1:9090", "Origin": "http://203.0.113.7"}
    assert client.get(route, headers=elsewhere).status_code == 403, "a page of an address is a page of a stranger"
    assert client.get(route, headers={"Host": "localhost", "Origin": "null"}).status_code == 403
    assert client.get("/live", headers={"Host": "evil.example"}).status_code == 200
    assert not list(tmp_path.rglob("*.json"))


def test_names_of_this_machine_and_of_the_settings_are_served(tmp_path: Path) -> None:
    client, _ = make(tmp_path, IHP_SERVED_HOSTS="Backend.Internal")
    for host in [*OWN, "backend.internal:9090", "backend.internal."]:
        assert client.get("/versions", headers={"Host": host}).status_code == 200, host
        assert client.get("/versions", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200, host


def test_with_a_password_any_name_is_served(tmp_path: Path) -> None:
    client, _ = make(tmp_path, IHP_BASIC_AUTH_USER="a", IHP_BASIC_AUTH_PASSWORD="b")
    assert client.get("/versions", headers={"Host": "ihp.example"}, auth=("a", "b")).status_code == 200


@pytest.fixture
def connected(tmp_path: Path) -> Any:
    with FakeLabelStudio() as studio:
        client, runtime = make(tmp_path, DiscModel())
        assert set_up(client, studio.url, token=LEGACY).status_code == 200
        yield client, runtime, studio


def test_a_stranger_replaces_no_label_studio(connected: Any) -> None:
    client, runtime, studio = connected
    for url, token in (("http://127.0.0.1:9", "f" * 40), (studio.url, "f" * 40), ("http://evil.example", "")):
        answer = set_up(client, url, token=token)
        assert answer.status_code == 409
        assert "IHP_LABEL_STUDIO_URL" in answer.json["detail"]
    assert runtime.connections.find(PROJECT) == Connection(studio.url, LEGACY)


def test_who_has_an_account_there_may_tell_another_address(connected: Any) -> None:
    client, runtime, studio = connected
    other = studio.url.replace("127.0.0.1", "localhost")
    assert set_up(client, other, token=LEGACY).status_code == 200
    assert runtime.connections.find(PROJECT) == Connection(other, LEGACY)


def test_a_label_studio_that_is_gone_can_be_replaced(tmp_path: Path) -> None:
    client, runtime = make(tmp_path, DiscModel())
    assert set_up(client, "http://127.0.0.1:9", token="f" * 40).status_code == 200
    assert set_up(client, "http://127.0.0.1:10", token="e" * 40).status_code == 200
    assert runtime.connections.find(PROJECT) == Connection("http://127.0.0.1:10", "e" * 40)


@pytest.mark.parametrize("hostname", [["a"], {"a": 1}, 5, "evil", "javascript:x", "file:///etc", "http://"])
def test_an_address_is_a_web_address(tmp_path: Path, hostname: Any) -> None:
    client, _ = make(tmp_path)
    assert client.post("/setup", json=golden("setup") | {"hostname": hostname}).status_code == 400
    assert not list(tmp_path.rglob("*.json"))


def series(client: FlaskClient) -> set[str]:
    return {line.rpartition(" ")[0] for line in client.get("/metrics").text.splitlines()}


def test_invented_projects_leave_no_record_and_no_series(tmp_path: Path) -> None:
    client, runtime = make(tmp_path, DiscModel())
    assert set_up(client, "http://127.0.0.1:9").status_code == 200
    before = series(client) - series(client)  # /metrics counts itself, too
    for number in range(60):
        created = f"2024-01-01T00:00:{number:02d}Z"
        for project in ({"id": 5000 + number, "created_at": created}, {"id": 1, "created_at": created}):
            for name in ("start_training", "annotation_created"):
                answer: Any = client.post("/webhook", json=golden(f"webhook_{name}") | {"project": project})
                assert answer.json["status"] == "ignored"
        client.get(f"/no/such/route/{number}")
        client.get(f"/versions?project={number}.1")
        client.post("/predict", json=golden("predict_click") | {"project": f"{number}.1"})
        before = before or series(client)  # each route has been asked once
    assert not runtime.trainings.records.projects()
    assert series(client) - before == set()


DAMAGE: dict[str, Any] = {
    "nested deep": b"[" * 100_000,
    "nested as deep as a parser takes": b'{"state":' + b"[" * 900 + b"]" * 900 + b"}",
    "other types": b'{"state":"never","outcomes":[],"total_seconds":"x"}',
    "a number where texts are": b'{"state":"never","left_out":5,"served":7}',
    "an object where a text is": b'{"state":{},"total_seconds":null,"served":{"lip":"x"}}',
    "no number": b'{"state":"promoted","total_seconds":NaN,"seconds":1e999}',
    "a number too large": b'{"state":"promoted","reason":"","total_seconds":' + b"9" * 4000 + b"}",
    "half a letter": b'{"state":"running","reason":"\\ud800","stage":"\\ud800","served":{"lip":["\\ud800"]}}',
    "empty": b"",
    "no text": bytes(range(256)),
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "name",
    [
        f"trainings/{PROJECT}.json",
        "trainings/9.9.json",
        f"trainings/.{PROJECT}.training",
        f"trainings/new/{PROJECT}.json",
        f"connections/{PROJECT}.json",
        f"versions/{PROJECT}/current.json",
        f"versions/{PROJECT}/lip-1+p1.001/status.json",
        f"versions/{PROJECT}/lip-1+p1.001/info.json",
    ],
)
def test_a_record_that_others_damaged_is_passed_over(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    client, runtime = make(tmp_path, DiscModel())
    runtime.triggers.knows = lambda project: True
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(DAMAGE[damage]):
        DAMAGE[damage](path)
    else:
        path.write_bytes(DAMAGE[damage])
    if name.endswith("info.json"):
        status = {"state": "promoted", "reason": "", "digest": ""}
        path.with_name("status.json").write_text(json.dumps(status))
    for route in ("/metrics", "/trainings", f"/versions?project={PROJECT}", "/projects/1/connection", "/health"):
        assert client.get(route).status_code == 200, route
    assert client.post("/predict", json=golden("predict_click")).status_code == 200
    assert client.post("/webhook", json=golden("webhook_annotation_created")).status_code in (200, 503)
    if not name.endswith((".training", "info.json")) and damage in ("nested deep", "empty", "a pipe", "a folder"):
        assert path.name in caplog.text
