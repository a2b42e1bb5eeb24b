"""Webhooks: events are counted, answered in time, and ask for trainings."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from time import perf_counter

import pytest
from backend import (
    assert_click_works,
    json_of,
    make_recorded,
)
from fakes import DiscModel, ImageHost, golden
from flask.testing import FlaskClient
from waiting import eventually


@pytest.fixture
def model() -> DiscModel:
    return DiscModel()


@pytest.fixture
def client(tmp_path: Path, model: DiscModel, image_host: ImageHost, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.setattr("ihp_backend.learning.triggers.WAIT_S", 10.0)  # the webhook tells what comes of an event
    return make_recorded(tmp_path, model, image_host)


@pytest.mark.parametrize("event", ["annotation_created", "annotation_updated", "annotations_deleted"])
def test_a_recorded_event_is_counted(client: FlaskClient, event: str) -> None:
    answer = client.post("/webhook", json=golden(f"webhook_{event}"))
    assert answer.status_code == 200
    assert answer.json == {"status": "counted", "action": event.upper()}
    assert f'ihp_webhook_events_total{{action="{event.upper()}"}} 1.0' in client.get("/metrics").text


def test_a_training_is_asked_for_and_told(client: FlaskClient) -> None:
    project = golden("predict_click")["project"]
    answer = client.post("/webhook", json=golden("webhook_start_training"))
    assert (answer.status_code, json_of(answer)["action"]) == (200, "START_TRAINING")
    assert json_of(answer)["status"] == "queued"
    assert json_of(client.get("/trainings"))[project]["state"] == "queued"
    assert json_of(client.post("/webhook", json=golden("webhook_start_training")))["status"] == "already queued"


@pytest.mark.parametrize("event", ["annotation_created", "start_training"])
def test_an_event_is_answered_in_time_with_a_full_disk_and_a_queue_that_hangs(
    client: FlaskClient, event: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def answers_in_time() -> bool:
        """Of a few, for this machine may be busy; one that waited for the disk or the queue would never be."""
        seconds = []
        for _ in range(5):
            start = perf_counter()
            assert client.post("/webhook", json=golden(f"webhook_{event}")).status_code in (200, 503)
            seconds.append(perf_counter() - start)
        return min(seconds) < 0.1

    monkeypatch.setattr("ihp_backend.learning.triggers.WAIT_S", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr("ihp_backend.files.os.replace", full)
        assert answers_in_time()
        eventually(lambda: "No space left" in caplog.text)
    go_on = Event()
    monkeypatch.setattr("ihp_backend.learning.queue.TrainingQueue.send", lambda *_: go_on.wait(30))
    assert answers_in_time()
    go_on.set()
    assert_click_works(client)


def test_other_events_are_ignored_and_broken_ones_refused(client: FlaskClient) -> None:
    assert json_of(client.post("/webhook", json={"action": "ANNOTATION_CREATED"}))["status"] == "ignored"
    assert json_of(client.post("/webhook", json={"action": "TASKS_CREATED"}))["status"] == "ignored"
    assert client.post("/webhook", json={"project": {"id": 1}}).status_code == 400
    assert client.post("/webhook", data="{", content_type="application/json").status_code == 400
