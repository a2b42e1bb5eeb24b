"""A child process that is started again when it dies, and stops with its parent."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from threading import Event, Thread
from time import monotonic, sleep

from ihp_backend.logs import fields

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_LIVED_S = 60.0
_GRACE_S = 15.0
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
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = Thread(target=self._run, name=f"{name} supervisor", daemon=True)

    @property
    def pid(self) -> int | None:
        """Process id of the child; ``None`` when none runs."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def start(self) -> None:
        """Starts the command, on a thread that keeps it running."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the child: by SIGTERM, after a while by SIGKILL."""
        self._stopping.set()
        child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
        self._thread.join(_GRACE_S)
        if child is not None and child.poll() is None:
            child.kill()
            child.wait()

    def _run(self) -> None:
        pause = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = monotonic()
            try:
                self._child = child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, start_new_session=True)
            except OSError as error:
                logger.error("the %s cannot be started: %s", self._name, error)
            else:
                if self._stopping.is_set():  # asked to stop while it started
                    child.terminate()
                # Not wait(): gunicorn waits for any child, too, and who comes second may then sleep for good.
                while child.poll() is None:
                    sleep(_LOOK_EVERY_S)
                if self._stopping.is_set():
                    return
                # The status is 0 where gunicorn has taken it.
                logger.error("the %s died and is started again", self._name, extra=fields(status=child.returncode))
            pause = _FIRST_PAUSE_S if monotonic() - began > _LIVED_S else min(2 * pause, _LONGEST_PAUSE_S)
            self._stopping.wait(pause)
