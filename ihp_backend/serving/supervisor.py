"""A child process that is started again when it dies, and stops with its parent."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from threading import Event, Thread
from time import monotonic, sleep

from ihp_backend.logs import fields

logger = logging.getLogger(__name__)

FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
LIVED_S = 60.0
GRACE_S = 15.0
_LOOK_EVERY_S = 0.2


class Supervisor:
    """Runs one command, again and again.

    Args:
        name: What log lines call it.
        command: The command. It gets a session of its own: Ctrl+C reaches this process only.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self._name = name
        self._command = list(command)
        self._stopping = Event()
        self._child: int | None = None
        self._thread = Thread(target=self._run, name=f"{name} supervisor", daemon=True)

    @property
    def pid(self) -> int | None:
        """Process id of the child; ``None`` when none runs."""
        return self._child

    def start(self) -> None:
        """Starts the command, on a thread that keeps it running."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the child: by SIGTERM, after a while by SIGKILL."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = monotonic()
            try:
                self._child = child = _spawned(self._command)
            except OSError as error:
                logger.error("the %s cannot be started: %s", self._name, error)
            else:
                while _is_alive(child) and not self._stopping.wait(_LOOK_EVERY_S):
                    pass
                if self._stopping.is_set():
                    _end(child)
                    self._child = None
                    return
                self._child = None
                logger.error("the %s died and is started again", self._name, extra=fields(pid=child))
            pause = FIRST_PAUSE_S if monotonic() - began > LIVED_S else min(2 * pause, _LONGEST_PAUSE_S)
            self._stopping.wait(pause)


def _spawned(command: Sequence[str]) -> int:
    """Starts a command in a session of its own, and returns its process id.

    Not by ``subprocess``: that waits for a pipe to close, which a worker that gunicorn forks meanwhile keeps open.
    """
    nothing = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    return os.posix_spawn(command[0], list(command), os.environ, file_actions=nothing, setsid=True)


def _is_alive(child: int) -> bool:
    """Looks, and never waits: gunicorn waits for any child, too, and who comes second could sleep for good."""
    try:
        return os.waitpid(child, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False


def _end(child: int) -> None:
    until = monotonic() + GRACE_S
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)
        while _is_alive(child):
            if monotonic() > until:
                os.kill(child, signal.SIGKILL)
            sleep(0.05)
