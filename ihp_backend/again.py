"""What could not be written down, as on a full disk, is written again until it is."""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Callable
from threading import Lock, Thread

logger = logging.getLogger(__name__)

EVERY_S = 5.0


class Again:
    """Repeats a piece of work in the background, until it goes well once.

    When the process ends it is tried once more; what then fails is lost, and the log says so.

    Args:
        name: What log lines call it.
        work: Raises OSError while it cannot be done. It does nothing where there is nothing to do.
        at_exit: The same where no other thread runs any more; by default the work.
    """

    def __init__(self, name: str, work: Callable[[], object], at_exit: Callable[[], object] | None = None) -> None:
        self._name = name
        self._work = work
        self._at_exit = at_exit or work
        self.is_running = self._is_wanted = False
        self._lock = Lock()

    def later(self) -> None:
        """Begins to repeat the work, if it is not being repeated already."""
        with self._lock:
            self._is_wanted = True
            if self.is_running:
                return
            self.is_running = True
            atexit.register(self._last)
        Thread(target=self._repeat, name=f"{self._name}, again", daemon=True).start()

    def _repeat(self) -> None:
        while self._is_left():
            time.sleep(EVERY_S)
            self._is_wanted = False
            try:
                self._work()  # without the lock: it may wait for who calls `later`
                logger.info("%s: what could not be written is written", self._name)
            except OSError as error:
                self._is_wanted = True
                logger.debug("%s: still not written: %s", self._name, error)
            except Exception:
                logger.exception("%s: will not be written", self._name)

    def _is_left(self) -> bool:
        with self._lock:
            self.is_running = self._is_wanted
            if not self.is_running:
                atexit.unregister(self._last)
            return self.is_running

    def _last(self) -> None:
        try:
            self._at_exit()
        except OSError as error:
            logger.error("%s: what could not be written is lost, for the process ends: %s", self._name, error)
