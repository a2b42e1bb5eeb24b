"""Which projects are ours: what nobody confirmed leaves nothing lasting, and what Label Studio confirms works on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from backend import json_of, make, set_up
from fake_label_studio import LEGACY, FakeLabelStudio, reply
from fakes import DiscModel, golden
from flask.testing import FlaskClient
from waiting import eventually

from ihp_backend.label_studio import connections
from ihp_backend.label_studio.connections import Connection, Connections
from ihp_backend.learning.registry import Registry
from ihp_backend.serving import known_projects
from ihp_backend.serving.known_projects import KnownProjects
from ihp_backend.serving.runtime import Runtime

DEAD = "http://127.0.0.1:9"
CREATED = 1_700_000_000


@pytest.fixture
def studio() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as made:
        yield made


def has(studio: FakeLabelStudio, number: int, answer: Any = None) -> str:
    """Puts a project into a Label Studio and returns its id; or anything else in its place."""
    created = datetime.fromtimestamp(CREATED, UTC).isoformat()
    body = {"id": number, "created_at": created} if answer is None else answer
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    studio.files[f"/api/projects/{number}/"] = data
    return f"{number}.{CREATED}"


def event(number: int, name: str = "start_training") -> dict[str, Any]:
    created = datetime.fromtimestamp(CREATED, UTC).isoformat()
    body: dict[str, Any] = golden(f"webhook_{name}")
    return body | {"project": body["project"] | {"id": number, "created_at": created}}


def status(client: FlaskClient, number: int, name: str = "start_training") -> str:
    answer = client.post("/webhook", json=event(number, name))
    assert answer.status_code in (200, 503)
    return str(json_of(answer).get("status", "503"))


def known(runtime: Runtime, project: str) -> bool:
    return runtime.known.knows(project) is True


def left(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def series(client: FlaskClient) -> set[str]:
    return {line.rpartition(" ")[0] for line in client.get("/metrics").text.splitlines()}


@pytest.mark.parametrize("host", ["dead", "of another project", "refuses"])
def test_what_nobody_confirmed_leaves_a_few_files_however_many_there_are(
    tmp_path: Path, studio: FakeLabelStudio, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ihp_backend.learning.triggers.WAIT_S", 10.0)
    monkeypatch.setattr(connections, "MOST_UNCONFIRMED", 5)
    client, runtime = make(tmp_path, DiscModel())
    url, token = (DEAD, "x") if host == "dead" else (studio.url, "x" if host == "refuses" else LEGACY)
    before: set[str] = set()
    for number in range(100, 130):
        has(studio, number, {"id": number, "created_at": "2020-01-01T00:00:00Z"})
        assert set_up(client, url, token, f"{number}.{CREATED}").status_code == 200
        for name in ("start_training", "annotation_created"):
            assert status(client, number, name) == ("503" if host == "dead" else "ignored")
        before |= series(client) | series(client) if number == 100 else set()  # /metrics counts itself, too
    assert left(tmp_path) == {f"connections/{number}.{CREATED}.json" for number in range(125, 130)}
    assert not series(client) - before
    assert json_of(client.get("/trainings")) == {}
    assert not any(known(runtime, f"{number}.{CREATED}") for number in range(100, 130))


def test_no_stranger_takes_the_place_of_a_confirmed_project(
    tmp_path: Path, studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_UNCONFIRMED", 2)
    monkeypatch.setattr(connections, "MOST", 3)
    client, runtime = make(tmp_path, DiscModel())
    own = [has(studio, number) for number in (1, 2)]
    for project in own:
        set_up(client, studio.url, LEGACY, project)
        eventually(partial(known, runtime, project))
    for number in range(100, 120):
        set_up(client, DEAD, "x", f"{number}.1")
    assert [name for name in runtime.connections.projects() if name in own] == own
    assert len(runtime.connections.projects()) == 4
    third = has(studio, 3)
    set_up(client, studio.url, LEGACY, third)
    eventually(partial(known, runtime, third))
    assert make(tmp_path)[1].known.knows(third), "a restart remembers it"


def test_a_label_studio_that_is_down_for_a_moment_loses_no_event(
    tmp_path: Path, studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ihp_backend.learning.triggers.WAIT_S", 10.0)
    client, runtime = make(tmp_path, DiscModel())
    project = has(studio, 5)
    studio.routes["/api/projects/5/"] = lambda handler: reply(handler, 502)
    assert set_up(client, studio.url, LEGACY, project).status_code == 200
    assert status(client, 5) == "503"
    assert runtime.trainings.records.projects() == []
    del studio.routes["/api/projects/5/"]
    assert set_up(client, studio.url, LEGACY, project).status_code == 200
    eventually(lambda: runtime.trainings.records.read(project).state == "queued")
    assert status(client, 5) == "already queued"


def test_events_that_wait_for_label_studio_are_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ihp_backend.learning.triggers.WAIT_S", 10.0)
    monkeypatch.setattr("ihp_backend.learning.triggers.MOST_DOUBTFUL", 5)
    client, runtime = make(tmp_path, DiscModel())
    set_up(client, DEAD, "x", f"5.{CREATED}")
    for _ in range(12):
        assert status(client, 5) == "503"
    runtime.triggers.close()
    assert caplog.text.count("is lost: Label Studio cannot be asked") == 7


@pytest.mark.parametrize("has_password", [False, True])
def test_with_a_token_in_the_settings_only_what_label_studio_has_is_trained(
    tmp_path: Path, studio: FakeLabelStudio, has_password: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ihp_backend.learning.triggers.WAIT_S", 10.0)
    password = {"IHP_BASIC_AUTH_USER": "a", "IHP_BASIC_AUTH_PASSWORD": "b"} if has_password else {}
    client, runtime = make(
        tmp_path, DiscModel(), IHP_LABEL_STUDIO_URL=studio.url, IHP_LABEL_STUDIO_TOKEN=LEGACY, **password
    )
    client.environ_base["HTTP_AUTHORIZATION"] = "Basic YTpi"
    project = has(studio, 5)
    for number in range(100, 120):
        assert status(client, number) == "ignored"
    assert status(client, 5) == "queued"
    assert runtime.trainings.records.projects() == [project]


def test_who_has_the_password_is_believed(tmp_path: Path) -> None:
    client, runtime = make(tmp_path, DiscModel(), IHP_BASIC_AUTH_USER="a", IHP_BASIC_AUTH_PASSWORD="b")
    client.environ_base["HTTP_AUTHORIZATION"] = "Basic YTpi"
    set_up(client, DEAD, "x", f"5.{CREATED}")
    assert known(runtime, f"5.{CREATED}")


@pytest.mark.parametrize(
    "answer", [b"", b"[" * 3_000_000, b"[]", b"null", b"{", b'{"id":' + b"[" * 90 + b"]" * 90 + b"}", b"\xff" * 100]
)
def test_an_answer_that_is_no_project_confirms_none(tmp_path: Path, studio: FakeLabelStudio, answer: bytes) -> None:
    client, runtime = make(tmp_path, DiscModel())
    project = has(studio, 5, answer)
    set_up(client, studio.url, LEGACY, project)
    eventually(lambda: "/api/projects/5/" in studio.paths())
    runtime.known.close()
    assert runtime.known.knows(project) is None


@pytest.mark.parametrize(
    ("more", "is_believed"),
    [
        ([[[[]]]], True),
        ("deep", False),
        ([[]] * 10_000, True),
        ([[]] * 1_200_000, False),
    ],
    ids=["as nested as any", "nested deep", "as long as any", "of more objects than any"],
)
def test_a_project_is_believed_where_its_answer_is_small(
    tmp_path: Path, studio: FakeLabelStudio, more: Any, is_believed: bool
) -> None:
    """A parser takes a hundred megabytes for such four."""
    client, runtime = make(tmp_path, DiscModel())
    body = {"id": 5, "created_at": datetime.fromtimestamp(CREATED, UTC).isoformat(), "more": more}
    data = json.dumps(body, separators=(",", ":")).replace('"deep"', "[" * 300 + "]" * 300).encode()
    assert len(data) < 4_000_000
    project = has(studio, 5, data)
    set_up(client, studio.url, LEGACY, project)
    eventually(lambda: "/api/projects/5/" in studio.paths())
    runtime.known.close()
    assert known(runtime, project) is is_believed


def test_an_answer_without_an_end_is_cut_off(
    tmp_path: Path, studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ihp_backend.label_studio.images.ASK_S", 1.0)
    sent = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b" " * 100_000)
            sent.append(100_000)

    studio.routes["/api/projects/5/"] = endless
    client, runtime = make(tmp_path, DiscModel())
    set_up(client, studio.url, LEGACY, f"5.{CREATED}")
    eventually(lambda: "/api/projects/5/" in studio.paths())
    runtime.known.close()
    assert sum(sent) < 30_000_000


def test_a_known_label_studio_is_replaced_by_what_is_confirmed_alone(tmp_path: Path, studio: FakeLabelStudio) -> None:
    client, runtime = make(tmp_path, DiscModel())
    project = has(studio, 5)
    gone = Connection(DEAD, "old", confirmed=True)
    runtime.connections.remember(project, gone)
    for url, token in (("http://127.0.0.1:10", "x"), (studio.url, "x")):
        assert set_up(client, url, token, project).status_code == 409, "the known one is only down"
    assert runtime.connections.find(project) == gone
    assert set_up(client, studio.url, LEGACY, project).status_code == 200, "it moved"
    assert runtime.connections.find(project) == Connection(studio.url, LEGACY)
    assert known(runtime, project)


def test_a_server_that_vouches_for_itself_replaces_no_confirmed_label_studio(
    tmp_path: Path, studio: FakeLabelStudio
) -> None:
    studio.routes["/api/current-user/whoami"] = lambda handler: reply(handler, 401)
    with FakeLabelStudio() as theirs:
        client, runtime = make(tmp_path, DiscModel())
        project = has(theirs, 5)
        mine = Connection(studio.url, "good", confirmed=True)
        runtime.connections.remember(project, mine)
        assert set_up(client, theirs.url, LEGACY, project).status_code == 409
        assert runtime.connections.find(project) == mine


def test_a_stranger_who_came_first_is_replaced(tmp_path: Path, studio: FakeLabelStudio) -> None:
    with FakeLabelStudio() as theirs:
        theirs.routes["/api/current-user/whoami"] = lambda handler: reply(handler, 401)
        client, runtime = make(tmp_path, DiscModel())
        project = has(studio, 5)
        set_up(client, theirs.url, "x", project)
        assert set_up(client, studio.url, LEGACY, project).status_code == 200
        assert runtime.connections.find(project) == Connection(studio.url, LEGACY)


def test_the_number_alone_means_the_confirmed_project(tmp_path: Path) -> None:
    known = Connections(tmp_path)
    known.remember("5.1", Connection("http://own.example", confirmed=True))
    known.remember("5.2", Connection("http://stranger.example"))
    assert known.name_of(5) == "5.1"


def test_each_project_is_asked_about_once_at_a_time_and_few_wait(
    tmp_path: Path, studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_projects, "MOST_ASKED", 6)
    _, runtime = make(tmp_path)
    go_on, asked, told = threading.Event(), list[str](), list[bool | None]()

    def slow(path: str, hostname: str, token: str) -> bytes:
        asked.append(path)
        go_on.wait(10)
        return b"{}"

    monkeypatch.setattr(runtime.images, "ask", slow)
    known = KnownProjects(runtime.settings, runtime.connections, Registry(tmp_path), runtime.images)
    with ExitStack() as stack:
        stack.callback(known.close)
        stack.callback(go_on.set)
        for number in range(10):
            runtime.connections.remember(f"{number}.1", Connection(studio.url))
            for _ in range(3):
                known.ask(f"{number}.1", told.append)
        assert told == [None] * 12, "of four there is no place"
        go_on.set()
        eventually(lambda: len(told) == 18)
    assert len(asked) == len(set(asked)) == 6
