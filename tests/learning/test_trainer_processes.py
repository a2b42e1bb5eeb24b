"""Trainers as processes of their own: stopped, killed, and without their Redis."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from trainings import DONE, P, Q, queue_of
from waiting import eventually

from ihp_backend.learning.queue import (
    ATTEMPTS,
    Report,
    Result,
    TrainingError,
)

TRAINER = """
import sys, time
from pathlib import Path
from ihp_backend import logs
from ihp_backend.learning.queue import Result, TrainingQueue
from ihp_backend.settings import Settings
from ihp_backend.learning.records import TrainingCounts

def work(project, report):
    (folder / f"began-{project}").touch()
    while (folder / "slow").exists():
        report("learns", 0.5)
        time.sleep(0.02)
    return Result("promoted", "fewer clicks", "v1")

folder = Path(sys.argv[1])
logs.configure("INFO")
while TrainingQueue(Settings(data_dir=folder, queue_url="".join(sys.argv[2:]))).serve(work):
    pass
"""


@contextmanager
def trainer(folder: Path, code: str = TRAINER, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", code, str(folder), *options], stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("outcome", ["promoted", "failed"])
def test_a_thorough_training_asked_for_while_a_quick_one_runs_comes_next(tmp_path: Path, outcome: str) -> None:
    thorough: list[bool] = []

    def work(project: str, report: Report) -> Result:
        thorough.append(queue.records.read(P).thorough)
        if not thorough[-1]:
            assert queue.ask(P, "annotations") == "already running"
            assert queue.ask(P, "Start Training", thorough=True) == "queued"
            assert queue.ask(P, "Start Training", thorough=True) == "already running", "once is enough"
        else:
            assert queue.ask(P, "Start Training", thorough=True) == "already running"
        if outcome == "failed":
            raise TrainingError("no masks")
        return DONE

    queue = queue_of(tmp_path, work)
    queue.ask(P, "annotations")
    assert queue.run(P).state == outcome
    queue.put_back_lost()
    assert queue.records.read(P).state == "queued"
    assert queue.run(P).state == outcome
    queue.put_back_lost()
    assert queue.run(P).state == outcome, "and then nothing waits"
    assert thorough == [False, True]


def test_a_trainer_takes_jobs_and_stops_in_the_middle_when_told(tmp_path: Path) -> None:
    queue = queue_of(tmp_path)
    queue.ask(P, "a test")
    with trainer(tmp_path) as process:
        eventually(lambda: queue.records.read(P).state == "promoted", 20)
        (tmp_path / "slow").touch()
        queue.ask(P, "a test")
        eventually(lambda: queue.records.read(P).stage == "learns", 10)
        assert queue.ask(P, "a test") == "already running"
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    record = queue.records.read(P)
    assert (record.state, record.attempts, record.outcomes["promoted"]) == ("queued", 0, 1)


def test_a_trainer_that_does_not_get_to_its_next_report_stops_all_the_same(tmp_path: Path) -> None:
    queue = queue_of(tmp_path)
    queue.ask(P, "a test")
    deaf = TRAINER.replace('report("learns", 0.5)', 'report("learns", 0.5); time.sleep(60)')
    (tmp_path / "slow").touch()
    with trainer(tmp_path, deaf + "import os; os._exit(0)\n") as process:
        eventually(lambda: queue.records.read(P).stage == "learns", 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    record = queue.records.read(P)
    assert (record.state, record.attempts) == ("queued", 0)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")
def test_a_redis_that_goes_and_comes_back_empty_loses_nothing(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    @contextmanager
    def redis() -> Iterator[None]:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    url = f"redis://127.0.0.1:{port}/0"
    queue = queue_of(tmp_path, IHP_QUEUE_URL=url)
    with trainer(tmp_path, TRAINER, url):
        with redis():
            queue.ask(P, "a test")
            eventually(lambda: queue.records.read(P).state == "promoted", 60)
        time.sleep(1)
        assert queue.ask(Q, "while it is down") == "queued"
        with redis():
            eventually(lambda: queue.records.read(Q).state == "promoted", 120)


def test_a_trainer_that_is_killed_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    queue = queue_of(tmp_path)
    queue.ask(P, "a test")
    (tmp_path / "slow").touch()
    for attempt in (1, 2):
        with trainer(tmp_path) as process:
            began = attempt, "learns"
            eventually(lambda: (queue.records.read(P).attempts, queue.records.read(P).stage) == began, 20)  # noqa: B023
            assert queue.records.is_training(P)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert not queue.records.is_training(P), "the lock died with it"
    (tmp_path / "slow").unlink()
    with trainer(tmp_path):
        eventually(lambda: queue.records.read(P).state == "promoted", 20)
    assert queue.records.read(P).attempts == 3


def test_a_training_that_kills_its_trainer_again_and_again_fails(tmp_path: Path) -> None:
    queue = queue_of(tmp_path)
    running: dict[str, Any] = {"state": "running", "attempts": ATTEMPTS, "stage": "learns"}
    (tmp_path / "trainings").mkdir()
    (tmp_path / "trainings" / f"{P}.json").write_text(json.dumps(running))
    queue.put_back_lost()
    record = queue.records.read(P)
    assert record.state == "failed"
    assert "died 3 times in the middle" in record.reason
    assert time.time() > record.retry_at
