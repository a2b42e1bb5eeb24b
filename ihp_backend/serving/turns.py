"""Requests of one task are answered one after the other, in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Turns:
    """Whoever clicks faster than masks come sends requests that each need what the one before was answered."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[object]] = {}
        self._changed = Condition()

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Waits until everybody who came before under this name is done.

        Args:
            name: Names the project and the task.
        """
        me = object()
        with self._changed:
            queue = self._waiting.setdefault(name, deque())
            queue.append(me)
            self._changed.wait_for(lambda: queue[0] is me)
        try:
            yield
        finally:
            with self._changed:
                queue.popleft()
                if not queue:
                    del self._waiting[name]
                self._changed.notify_all()
