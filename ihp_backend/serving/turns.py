"""Requests of one task are answered one after the other, in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Turns:
    """Keeps requests of one task in order. Each needs the answer to the one before, also from a fast annotator."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[object]] = {}
        self._changed = Condition()

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Waits until all earlier requests under this name are answered.

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
