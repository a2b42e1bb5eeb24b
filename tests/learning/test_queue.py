from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from fakeredis import TcpFakeServer
from prometheus_client import CollectorRegistry, generate_latest
from trainings import DONE, P, Q, queue_of

from ihp_backend.learning import records
from ihp_backend.learning.queue import (
    ATTEMPTS,
    InterruptedTraining,
    Report,
    Result,
    TemporaryError,
    TrainingError,
    TrainingQueue,
)
from ihp_backend.learning.records import TrainingCounts


def carried(queue: TrainingQueue) -> int:
    return queue.carried()


def counted(queue: TrainingQueue) -> str:
    """What Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(TrainingCounts(queue.records))
    return generate_latest(registry).decode()


def test_trainings_of_so_many_projects_are_told_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_SERIES", 3)
    queue = queue_of(tmp_path)
    for number in range(1, 7):
        queue.records.change(f"{number}.1", lambda record: replace(record, state="promoted"))
    lines = counted(queue).splitlines()
    assert sum(line.startswith("ihp_training_seconds_total{") for line in lines) == 3
    assert sum(line.startswith("ihp_trainings_total{") for line in lines) == 3 * len(records.OUTCOMES)


@pytest.mark.parametrize("outcome", ["promoted", "rejected"])
def test_a_training_that_is_asked_for_is_done_once(tmp_path: Path, outcome: str) -> None:
    done: list[str] = []

    def work(project: str, report: Report) -> Result:
        report("learns", 0.5)
        assert (queue.records.read(P).state, queue.records.read(P).stage) == ("running", "learns")
        assert queue.ask(P, "again") == "already running"
        assert f'ihp_training_running{{project="{P}"}} 1.0' in counted(queue)
        assert f'ihp_training_share{{project="{P}",stage="learns"}} 0.5' in counted(queue)
        assert queue.ask(Q, "another project") in ("queued", "already queued")
        done.append(project)
        return Result(outcome, "because", "lip-2+p1.001", ("task 3: no mask",))

    queue = queue_of(tmp_path, work)
    assert queue.ask(P, "a test") == "queued"
    assert queue.ask(P, "a test") == "already queued"
    assert "ihp_training_queue 1.0" in counted(queue)
    record = queue.run(P)
    assert queue.run(P) == record, "nobody asked again"
    assert done == [P]
    assert (record.state, record.reason, record.version) == (outcome, "because", "lip-2+p1.001")
    assert record.outcomes[outcome] == 1
    assert record.left_out == ("task 3: no mask",)
    assert queue_of(tmp_path).records.read(P) == record, "every process sees it"
    assert f'ihp_trainings_total{{outcome="{outcome}",project="{P}"}} 1.0' in counted(queue)
    assert f'ihp_training_running{{project="{P}"}} 0.0' in counted(queue)
    assert f'ihp_training_seconds_total{{project="{P}"}} 0.' in counted(queue)
    assert queue.ask(P, "later") == "queued"
    assert queue.run(P).outcomes[outcome] == 2


def test_only_one_trainer_has_a_project(tmp_path: Path) -> None:
    def work(project: str, report: Report) -> Result:
        other = queue_of(tmp_path, lambda *_: pytest.fail("trained twice"))
        assert other.run(project).state == "running"
        return DONE

    queue = queue_of(tmp_path, work)
    queue.ask(P, "a test")
    assert queue.run(P).state == "promoted"


def test_a_fault_that_may_pass_is_tried_again_with_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ihp_backend.learning.queue.FIRST_RETRY_S", 0.0)
    tries = []

    def work(project: str, report: Report) -> Result:
        tries.append(project)
        if len(tries) % 2:
            raise OSError(28, "No space left on device")
        raise TemporaryError("Label Studio cannot be reached")

    queue = queue_of(tmp_path, work)
    queue.ask(P, "a test")
    for attempt in range(1, ATTEMPTS):
        record = queue.run(P)
        assert record.state == "waiting"
        assert f"attempt {attempt} of {ATTEMPTS} failed" in record.reason
        queue.put_back_lost()
        assert queue.records.read(P).state == "queued"
    record = queue.run(P)
    assert (record.state, len(tries)) == ("failed", ATTEMPTS)
    assert record.reason == "after 3 attempts: [Errno 28] No space left on device"
    queue.ask(P, "again")
    assert queue.run(P).state == "waiting", "another request has its own attempts"


def test_a_waiting_one_is_not_done_before_its_time_but_when_asked(tmp_path: Path) -> None:
    def work(project: str, report: Report) -> Result:
        raise TemporaryError("down")

    queue = queue_of(tmp_path, work)
    queue.ask(P, "a test")
    assert queue.run(P).state == "waiting"
    queue.put_back_lost()
    assert queue.run(P).attempts == 1
    assert queue.ask(P, "now, please") == "already queued"
    assert queue.run(P).attempts == 2


@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_jumps_loses_no_training_and_delays_none_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """The times in records are of the clock on the wall: other machines read them, too."""

    def work(project: str, report: Report) -> Result:
        raise TemporaryError("down")

    now = time.time()
    queue = queue_of(tmp_path, work)
    queue.ask(P, "a test")
    queue.transport.flush()
    monkeypatch.setattr("ihp_backend.learning.queue.time.time", lambda: now + 86400 * days)
    queue.put_back_lost()
    assert carried(queue) == 1, "what the queue lost"
    assert queue.run(P).state == "waiting"
    queue.put_back_lost()
    assert queue.records.read(P).state == "waiting"
    monkeypatch.setattr("ihp_backend.learning.queue.time.time", lambda: now)
    queue.put_back_lost()
    assert queue.records.read(P).state == "queued", "the clock was put right: its time has come, or cannot be"


@pytest.mark.parametrize("error", [TrainingError("two photos are needed"), ValueError("a bug")])
def test_a_fault_that_stays_is_reported_at_once(
    tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def work(project: str, report: Report) -> Result:
        raise error

    queue = queue_of(tmp_path, work)
    queue.ask(P, "a test")
    record = queue.run(P)
    assert record.state == "failed"
    assert str(error) in record.reason
    assert record.outcomes["failed"] == 1
    (line,) = [r for r in caplog.records if r.getMessage() == "training ended"]
    assert line.levelno == logging.ERROR


def test_a_trainer_that_stops_lets_the_next_one_begin_anew(tmp_path: Path) -> None:
    def work(project: str, report: Report) -> Result:
        queue.stop()
        report("learns", 0.1)
        return DONE

    queue = queue_of(tmp_path, work)
    queue.ask(P, "a test")
    record = queue.run(P)
    assert (record.state, record.attempts) == ("queued", 0)
    assert issubclass(InterruptedTraining, BaseException)
    assert not issubclass(InterruptedTraining, Exception), "a learner that catches errors must not swallow it"
    assert queue_of(tmp_path, lambda *_: DONE).run(P).state == "promoted"


def test_a_job_that_the_queue_lost_is_put_in_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = queue_of(tmp_path)
    queue.ask(P, "a test")
    queue.transport.flush()
    assert carried(queue) == 0
    queue.put_back_lost()
    assert carried(queue) == 0, "too early: it may be on its way"
    monkeypatch.setattr("ihp_backend.learning.queue.LOST_AFTER_S", 0.0)
    queue.put_back_lost()
    queue.put_back_lost()
    assert carried(queue) == 1


def test_a_queue_that_is_down_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    down = queue_of(tmp_path, IHP_QUEUE_URL="redis://127.0.0.1:1/0")
    assert down.ask(P, "a test") == "queued"
    assert "the queue does not take" in caplog.text
    monkeypatch.setattr("ihp_backend.learning.queue.LOST_AFTER_S", 0.0)
    up = queue_of(tmp_path)
    up.put_back_lost()
    assert carried(up) == 1


def test_redis_carries_the_jobs_where_the_settings_say_so(tmp_path: Path) -> None:
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"redis://127.0.0.1:{server.server_address[1]}/0"
    try:
        asking, training = (queue_of(tmp_path, lambda *_: DONE, IHP_QUEUE_URL=url) for _ in range(2))
        asking.ask(P, "a test")
        assert carried(training) == 1
        _ = training.task
        training.transport.execute(training.transport.dequeue())
        assert asking.records.read(P).state == "promoted"
        assert not (tmp_path / "trainings" / "queue.sqlite").exists()
    finally:
        server.shutdown()
        server.server_close()


def test_what_the_queue_carries_is_json(tmp_path: Path) -> None:
    queue_of(tmp_path).ask(P, "a test")
    with sqlite3.connect(tmp_path / "trainings" / "queue.sqlite") as connection:
        (data,) = connection.execute("select data from task").fetchone()
    connection.close()
    assert json.loads(data)["args"] == [P]


def test_a_full_disk_is_told_to_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    queue = queue_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            queue.ask(P, "a test")
    assert queue.records.read(P).state == "never"
    (tmp_path / "trainings" / f"{Q}.json").write_text("{")
    assert queue.records.read(Q).state == "never"
    assert queue.ask(Q, "a test") == "queued"


def test_a_disk_that_is_full_at_the_end_of_a_training_is_told_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def work(project: str, report: Report) -> Result:
        patch.setattr(os, "replace", full)
        raise OSError(28, "No space left on device")

    queue = queue_of(tmp_path, work)
    queue.ask(P, "a test")
    for attempt in range(1, ATTEMPTS + 1):
        with monkeypatch.context() as patch:
            assert queue.run(P).state == "running", "nothing can be written"
            caplog.clear()
            for _ in range(3):
                with pytest.raises(OSError, match="No space"):
                    queue.put_back_lost()
            assert "died" not in caplog.text
            assert not caplog.records, "it would be logged every two seconds"
        queue.put_back_lost()
        record = queue.records.read(P)
        assert "No space left" in record.reason
        assert record.state == ("queued" if attempt < ATTEMPTS else "failed")
