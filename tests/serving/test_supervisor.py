from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from waiting import eventually

from ihp_backend.serving.supervisor import Supervisor

CHILD = "import sys, time; open(sys.argv[1], 'a').write('x'); time.sleep(60)"


def begun(path: Path) -> int:
    return len(path.read_text()) if path.exists() else 0


def is_alive(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return False
    return pid is not None


def test_a_child_that_dies_is_started_again_and_stops_with_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ihp_backend.serving.supervisor.LIVED_S", 0.0)
    monkeypatch.setattr("ihp_backend.serving.supervisor.FIRST_PAUSE_S", 0.05)
    file = tmp_path / "begun"
    supervisor = Supervisor("trainer", [sys.executable, "-c", CHILD, str(file)])
    supervisor.start()
    for count in (1, 2, 3):
        eventually(lambda: begun(file) == count and supervisor.pid is not None, 20)  # noqa: B023
        if count < 3:
            assert supervisor.pid
            os.kill(supervisor.pid, signal.SIGKILL)
    assert "the trainer died and is started again" in caplog.text
    pid = supervisor.pid
    assert is_alive(pid)
    supervisor.stop()
    assert not is_alive(pid)
    assert supervisor.pid is None
    assert begun(file) == 3


def test_a_child_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ihp_backend.serving.supervisor.GRACE_S", 0.3)
    file = tmp_path / "begun"
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {CHILD}"
    supervisor = Supervisor("trainer", [sys.executable, "-c", deaf, str(file)])
    supervisor.start()
    eventually(lambda: begun(file) == 1, 20)
    pid = supervisor.pid
    supervisor.stop()
    assert not is_alive(pid)


def test_a_command_that_is_missing_is_logged_and_tried_again_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ihp_backend.serving.supervisor.FIRST_PAUSE_S", 0.01)
    supervisor = Supervisor("trainer", ["/nowhere/ihp"])
    supervisor.start()
    eventually(lambda: caplog.text.count("cannot be started") >= 2)
    supervisor.stop()
