from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from waiting import eventually

from ihp_backend import again
from ihp_backend.again import Again
from ihp_backend.label_studio import connections
from ihp_backend.label_studio.connections import Connection, Connections


def test_work_is_repeated_until_it_goes_well_and_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "EVERY_S", 0.01)
    done: list[int] = []

    def work() -> None:
        done.append(len(done))
        if len(done) % 3:
            raise OSError(28, "No space left on device")

    repeated = Again("work", work)
    for total in (3, 6):
        repeated.later()
        repeated.later()
        eventually(lambda total=total: len(done) == total and not repeated.is_running)  # type: ignore[misc]


def test_who_asks_for_the_work_is_not_waited_for_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work runs on a thread that finds out, at the same moment, that there is more to do."""
    monkeypatch.setattr(again, "EVERY_S", 0.01)
    done: list[int] = []

    def ask_for_more() -> None:
        done.append(len(done))
        if len(done) == 1:
            repeated.later()

    def work() -> None:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(ask_for_more).result(5)

    repeated = Again("work", work)
    repeated.later()
    eventually(lambda: len(done) == 2 and not repeated.is_running)


def test_a_place_that_cannot_be_written_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "EVERY_S", 0.01)
    (tmp_path / "1.1.json").mkdir()
    known = Connections(tmp_path)
    for project in ("1.1", "2.1"):
        known.remember(project, Connection("http://a.example"))
    assert Connections(tmp_path).find("2.1") == known.find("1.1") == Connection("http://a.example")
    (tmp_path / "1.1.json").rmdir()
    eventually(lambda: Connections(tmp_path).find("1.1") is not None)


def test_what_setup_told_on_a_full_disk_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(again, "EVERY_S", 0.01)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    known = Connections(tmp_path)
    told = Connection("http://a.example", "t")
    with monkeypatch.context() as patch:
        patch.setattr(connections, "write_whole", full)
        known.remember("1.1", told)
        assert known.find("1.1") == told
        assert Connections(tmp_path).find("1.1") is None
    eventually(lambda: Connections(tmp_path).find("1.1") == told)


AT_EXIT = """
import os, sys
from pathlib import Path
from ihp_backend import logs
from ihp_backend.label_studio.connections import Connection, Connections
from ihp_backend.learning.queue import TrainingQueue
from ihp_backend.learning import triggers as module
from ihp_backend.learning.triggers import Triggers
from ihp_backend.settings import Settings

module.WAIT_S = 20  # for the answer that comes, on a slow machine too

def full(*_):
    raise OSError(28, "No space left on device")

logs.configure("INFO")
settings = Settings(data_dir=Path(sys.argv[1]))
triggers, known = Triggers(settings, TrainingQueue(settings)), Connections(settings.data_dir / "connections")
replace, os.replace = os.replace, full
project = {"id": 1, "created_at": "2024-01-01T00:00:00Z"}
print(triggers.take("START_TRAINING", {"project": project}))
known.remember("1.1", Connection("http://a.example"))
if sys.argv[2] == "room":
    os.replace = replace
"""


@pytest.mark.parametrize("disk", ["room", "full"])
def test_what_waits_is_written_when_the_process_ends_or_said_to_be_lost(tmp_path: Path, disk: str) -> None:
    command = [sys.executable, "-c", AT_EXIT, str(tmp_path), disk]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "postponed\n", done.stderr
    assert done.returncode == 0
    written = {path.name for path in tmp_path.rglob("*.json")}
    assert {"1.1.json", "1.1704067200.json"} <= written if disk == "room" else not written
    assert done.stderr.count("is lost, for the process ends") == (0 if disk == "room" else 2)


def test_no_more_projects_than_anybody_has_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 3)
    known = Connections(tmp_path)
    for number in range(3):
        known.remember(f"{number}.1", Connection("http://a.example", confirmed=True))
    with pytest.raises(ValueError, match="3 projects are known already"):
        known.remember("9.1", Connection("http://a.example", confirmed=True))
    known.remember("1.1", Connection("http://b.example", confirmed=True))
    assert known.projects() == ["0.1", "1.1", "2.1"]
