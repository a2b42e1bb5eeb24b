from __future__ import annotations

import json
import os
import time
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from fakes import golden
from waiting import eventually

from ihp_backend.learning.queue import Result, TrainingQueue
from ihp_backend.learning.triggers import Triggers, project_key
from ihp_backend.settings import Settings

P = "1.1795392500"


@pytest.fixture
def queue(tmp_path: Path) -> TrainingQueue:
    return TrainingQueue(Settings(data_dir=tmp_path))


def triggers_of(queue: TrainingQueue, after: int = 3) -> Triggers:
    return Triggers(Settings(data_dir=queue.records.folder.parent, train_after=after), queue)


@pytest.fixture
def triggers(queue: TrainingQueue) -> Triggers:
    return triggers_of(queue)


def event(name: str, number: int = 1, **changes: Any) -> tuple[str, dict[str, Any]]:
    body = golden(f"webhook_{name}")
    if "annotation" in body:
        body["annotation"] |= {"id": number, "result": [], **changes}
    if "annotations" in body:
        body["annotations"] = [{"id": number}]
    return body["action"], body


def state(queue: TrainingQueue, project: str = P) -> str:
    return queue.records.read(project).state


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ihp_backend.learning.triggers.WAIT_S", 10.0)  # tests look at what came of it


def test_an_event_names_the_project_as_the_other_requests_do() -> None:
    for name in ("start_training", "annotation_created", "annotation_updated", "annotations_deleted"):
        assert project_key(golden(f"webhook_{name}")["project"]) == golden("predict_click")["project"]
    assert project_key(golden("setup")["project"]) == P
    for nonsense in (None, "../x", "1.2/3", "1", {}, {"id": "1"}, {"id": 1}, {"id": 1, "created_at": "today"}, ""):
        assert project_key(nonsense) is None
    for year in ("0001-01-01", "9999-12-31T23:59:59-23:59"):  # no second since 1970, or one of many digits
        assert project_key({"id": 1, "created_at": year}) in (None, "1.253402387139")


def test_start_training_starts_one(queue: TrainingQueue, triggers: Triggers) -> None:
    assert triggers.take(*event("start_training")) == "queued"
    assert state(queue) == "queued"
    assert queue.records.read(P).reason == "Label Studio's Start Training"
    assert triggers.take(*event("start_training")) == "already queued"
    assert queue.records.read(P).thorough, "somebody asked: it may take minutes"


def test_enough_new_annotations_start_one_and_are_counted_anew_then(queue: TrainingQueue, triggers: Triggers) -> None:
    for number in (1, 2):
        assert triggers.take(*event("annotation_created", number)) == "counted"
    assert state(queue) == "never"
    triggers.take(*event("annotation_created", 3))
    assert state(queue) == "queued"
    assert queue.records.read(P).reason == "3 new or changed annotations"
    queue.work = lambda *_: pytest.fail("is not called")
    queue.records.change(P, lambda record: type(record)())
    for number in (3, 4):
        triggers.take(*event("annotation_updated", number))
    assert state(queue) == "never"
    triggers.take(*event("annotation_created", 5))
    assert state(queue) == "queued"


def test_an_annotation_counts_once_however_often_it_is_changed(queue: TrainingQueue, triggers: Triggers) -> None:
    for _ in range(10):
        triggers.take(*event("annotation_updated", 1))
        triggers.take(*event("annotation_created", 2))
    assert state(queue) == "never"


def test_deleted_and_skipped_annotations_do_not_count(queue: TrainingQueue, triggers: Triggers) -> None:
    for number in range(5):
        triggers.take(*event("annotation_created", number, was_cancelled=True))
        triggers.take(*event("annotation_created", 10 + number))
        triggers.take(*event("annotations_deleted", 10 + number))
        triggers.take(*event("annotation_created", 20 + number))
        triggers.take(*event("annotation_updated", 20 + number, was_cancelled=True))
    assert state(queue) == "never"


def test_several_annotations_in_one_event_count_each(queue: TrainingQueue, triggers: Triggers) -> None:
    _, body = event("annotation_created")
    body["annotation"] = [{**body["annotation"], "id": number} for number in range(3)]
    triggers.take("ANNOTATIONS_CREATED", body)
    assert state(queue) == "queued"


@pytest.mark.parametrize(
    ("own", "setting", "starts"), [("2", 0, True), ("0", 1, False), ("x", 2, True), (None, 0, False)]
)
def test_the_label_config_has_the_last_word_on_how_many(
    queue: TrainingQueue, own: str | None, setting: int, starts: bool
) -> None:
    triggers = triggers_of(queue, setting)
    for number in (1, 2):
        action, body = event("annotation_created", number)
        if own is not None:
            xml = body["project"]["label_config"]
            body["project"]["label_config"] = xml.replace(
                "<KeyPointLabels ", f'<KeyPointLabels ihp_train_after="{own}" '
            )
        triggers.take(action, body)
    assert (state(queue) == "queued") is starts


def test_a_restart_goes_on_counting(queue: TrainingQueue) -> None:
    for number in range(3):
        triggers_of(queue).take(*event("annotation_created", number))
    assert state(queue) == "queued"


def test_projects_are_counted_apart(queue: TrainingQueue, triggers: Triggers) -> None:
    for number in range(4):
        action, body = event("annotation_created", number)
        body["project"]["id"] = number % 2 + 1
        triggers.take(action, body)
    assert queue.records.projects() == []


def test_what_comes_while_a_training_runs_starts_the_next(queue: TrainingQueue, triggers: Triggers) -> None:
    runs: list[str] = []

    def work(project: str, report: Any) -> Result:
        for number in range(3 - len(runs)):
            triggers.take(*event("annotation_created", number))
        runs.append(project)
        return Result("rejected", "", "")

    queue.work, queue.after = work, triggers.ask_if_due
    queue.ask(P, "a test")
    queue.run(P)
    assert state(queue) == "queued"
    assert queue.records.read(P).reason == "3 new or changed annotations"
    assert queue.run(P).state == "rejected"
    assert state(queue) == "rejected", "two are not enough"
    assert triggers_of(queue).ask_if_due("7.1") is None


def test_after_a_training_that_failed_the_next_annotation_asks_again(queue: TrainingQueue, triggers: Triggers) -> None:
    queue.work = lambda project, report: Result("failed", "Label Studio was away", "")
    for number in range(3):
        triggers.take(*event("annotation_created", number))
    assert queue.run(P).state == "failed"
    assert triggers.ask_if_due(P) is None, "not by itself: it would fail for ever"
    triggers.take(*event("annotation_created", 4))
    assert state(queue) == "queued"


@pytest.mark.parametrize("path", ["new/1.1795392500.json"])
def test_a_damaged_count_begins_at_zero(queue: TrainingQueue, triggers: Triggers, path: str) -> None:
    file = queue.records.folder / path
    file.parent.mkdir(parents=True)
    file.write_text('{"')
    for number in range(3):
        assert triggers.take(*event("annotation_created", number)) == "counted"
    assert state(queue) == "queued"


def test_an_event_without_a_project_is_told_in_the_log(triggers: Triggers, caplog: pytest.LogCaptureFixture) -> None:
    assert triggers.take("ANNOTATION_CREATED", {"action": "ANNOTATION_CREATED"}) == "ignored"
    assert "must send payloads" in caplog.text
    assert triggers.take("PROJECT_UPDATED", {}) == "ignored"


def test_what_a_full_disk_does_not_take_is_written_when_there_is_room(
    queue: TrainingQueue, triggers: Triggers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ihp_backend.again.EVERY_S", 0.05)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert triggers.take(*event("start_training")) == "postponed"
        assert triggers.take(*event("annotation_created")) == "postponed"
        time.sleep(0.2)
        assert state(queue) == "never"
    assert "No space left" in caplog.text
    eventually(lambda: not triggers.unwritten)
    assert state(queue) == "queued"
    (count,) = queue.records.folder.glob("new/*.json")
    assert len(json.loads(count.read_text())["annotations"]) == 1, "in their order: the training came first"


def test_an_event_after_the_disk_was_full_does_not_overtake(
    queue: TrainingQueue, triggers: Triggers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert triggers.take(*event("annotation_created")) == "postponed"
    assert triggers.take(*event("annotations_deleted")) == "counted"
    assert not triggers.unwritten


def test_events_of_projects_that_nobody_connected_leave_nothing(tmp_path: Path, queue: TrainingQueue) -> None:
    triggers = Triggers(Settings(data_dir=tmp_path), queue, knows=lambda project: False)
    for name in ("start_training", "annotation_created"):
        assert triggers.take(*event(name)) == "ignored"
    assert not list(tmp_path.rglob("*.json"))


def test_a_queue_that_hangs_holds_nobody_up(
    queue: TrainingQueue, triggers: Triggers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ihp_backend.learning.triggers.WAIT_S", 0.08)
    go_on = Event()
    monkeypatch.setattr(TrainingQueue, "send", lambda *_: go_on.wait(10))
    seconds = []
    for name in ("start_training", "annotation_created", "start_training"):
        start = time.perf_counter()
        assert triggers.take(*event(name)) == "accepted"
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1  # of several, for this machine may be busy
    go_on.set()
    triggers.close()
    assert state(queue) == "queued"


def test_an_event_that_can_never_be_written_does_not_stop_those_behind_it(
    queue: TrainingQueue, triggers: Triggers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [OSError(28, "No space left on device"), RuntimeError("never")]

    def broken(*_: object, **__: object) -> str:
        raise errors.pop(0)

    with monkeypatch.context() as patch:
        patch.setattr(queue, "ask", broken)
        assert triggers.take(*event("start_training")) == "postponed"
        assert triggers.take(*event("annotation_created")) == "counted"
    assert not triggers.unwritten
    assert "START_TRAINING" in caplog.text
