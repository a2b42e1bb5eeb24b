"""The next photo is made ready in quiet moments, once for each task, and only where the queue says which it is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from backend import json_of
from fake_label_studio import LEGACY
from fake_project import CONFIG, PROJECT, FakeProject, box, region
from fakes import DiscModel
from flask.testing import FlaskClient
from waiting import eventually

from ihp_backend.label_studio.connections import Connection
from ihp_backend.serving import computing
from ihp_backend.serving.application import create_app
from ihp_backend.serving.computing import Computing
from ihp_backend.serving.next_photo import NextPhoto, Step
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings
from ihp_backend.telemetry import Metrics

FACE = region("Face", box(slice(0, 20), slice(0, 30)))


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProject]:
    monkeypatch.setattr(computing, "QUIET_S", 0.05)
    with FakeProject() as fake:
        fake.add(3)
        fake.add(4, FACE)
        fake.add(5)
        fake.add(6)
        yield fake


def make(project: FakeProject, tmp_path: Path, **environment: str) -> tuple[FlaskClient, DiscModel]:
    model = DiscModel()
    where = {"IHP_LABEL_STUDIO_URL": project.url, "IHP_LABEL_STUDIO_TOKEN": LEGACY, "IHP_DATA_DIR": str(tmp_path)}
    settings = Settings.from_environment(where | environment)
    return create_app(runtime=Runtime(settings, lambda: model)).test_client(), model


def ask(client: FlaskClient, task: int, *, click: bool = False) -> None:
    value = {"x": 50, "y": 50, "width": 0.3, "keypointlabels": ["Face"]}
    names = {"from_name": "click", "to_name": "image", "type": "keypointlabels"}
    clicks = [{"id": "k", "is_positive": True, "value": value, **names}]
    body = {
        "tasks": [{"id": task, "data": {"image": f"/data/upload/1/photo-{task}.png"}}],
        "project": PROJECT,
        "label_config": CONFIG,
        "params": {"context": {"result": clicks} if click else None},
    }
    assert json_of(client.post("/predict", json=body))["results"][0]["result"]


def fetched(project: FakeProject, number: int) -> bool:
    return f"/data/upload/1/photo-{number}.png" in project.paths()


@pytest.mark.parametrize("click", [False, True], ids=["opened", "clicked"])
def test_the_next_task_without_an_annotation_is_made_ready(project: FakeProject, tmp_path: Path, click: bool) -> None:
    client, model = make(project, tmp_path)
    ask(client, 3, click=click)
    eventually(lambda: fetched(project, 5))
    eventually(lambda: len(model.prefetched) == (1 if click else 2))
    assert not fetched(project, 4), "it is annotated"
    assert not fetched(project, 6), "one at a time"
    before = len(project.requests)
    ask(client, 3, click=True)
    time.sleep(0.3)
    asked = [path for _, path, _ in project.requests[before:]]
    assert asked == [], "once for each task, and what is there is not fetched again"


def test_after_the_last_one_nothing_is_asked_for(project: FakeProject, tmp_path: Path) -> None:
    client, _ = make(project, tmp_path)
    ask(client, 6)
    eventually(lambda: any("/api/tasks/" in path for path in project.paths()))
    time.sleep(0.2)
    assert not fetched(project, 3)


def test_a_setting_turns_it_off(project: FakeProject, tmp_path: Path) -> None:
    client, _ = make(project, tmp_path, IHP_PREFETCH_NEXT="false")
    ask(client, 3)
    time.sleep(0.3)
    assert not fetched(project, 5)
    assert not any("/api/tasks/" in path for path in project.paths())


@pytest.mark.parametrize("sampling", ["Uniform sampling", "Uncertainty sampling"])
def test_where_the_next_one_is_not_known_none_is_fetched(project: FakeProject, tmp_path: Path, sampling: str) -> None:
    project.project["sampling"] = sampling
    client, _ = make(project, tmp_path)
    ask(client, 3)
    eventually(lambda: any("/api/projects/1/" in path for path in project.paths()))
    time.sleep(0.2)
    assert not fetched(project, 5)


def test_a_label_studio_that_is_down_breaks_no_click(project: FakeProject, tmp_path: Path) -> None:
    client, _ = make(project, tmp_path)
    project.fails["/api/"] = 503
    ask(client, 3, click=True)
    eventually(lambda: any("/api/" in path for path in project.paths()))
    project.fails.clear()
    ask(client, 5, click=True)
    eventually(lambda: fetched(project, 6))


def test_of_several_at_once_one_is_made_ready(project: FakeProject) -> None:
    going = Event()

    def wait(step: Step) -> bool:
        going.wait(5)
        return True

    ahead = NextPhoto(wait)
    opened: list[int] = []

    def open_photo(task: Any) -> Callable[[], list[Step]]:
        opened.append(task["id"])
        return list

    there = Connection(project.url, LEGACY)
    first = ahead.after(PROJECT, 3, there, open_photo)
    assert first is not None
    assert ahead.after(PROJECT, 5, there, open_photo) is None
    assert ahead.after("no number", 5, there, open_photo) is None
    going.set()
    first.join(5)
    assert opened == [5]
    second = ahead.after(PROJECT, 5, there, open_photo)
    assert second is not None, "the one that had no place gets one later"
    second.join(5)
    assert opened == [5, 6]
    queries = [json.dumps(request) for request in project.requests if "/api/tasks/" in request[1]]
    assert all("page_size=1" in query and "task_only" in query for query in queries)


def test_a_step_waits_until_nobody_has_asked_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing, "QUIET_S", 0.3)
    shared = Computing(Settings(threads=1, torch_threads=1), Metrics())
    shared.run(lambda: None)
    asked, done = time.monotonic(), list[float]()
    assert shared.run_when_quiet(lambda: done.append(time.monotonic()))
    assert done[0] - asked >= 0.25
    busy = Event()
    running = shared.prefetch(lambda: [lambda: busy.wait(5)])
    assert not shared.run_when_quiet(lambda: done.append(0.0), within_s=0.5), "something runs all the time"
    busy.set()
    assert running is not None
    running.join(5)
    assert len(done) == 1
