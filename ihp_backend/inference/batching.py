"""Threads that ask at the same time are answered with one batch; who asks alone does not wait for others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batching(Generic[Item, Answer]):
    """Calls a function on batches of what threads ask.

    One batch runs at a time. What is asked meanwhile waits, and the next batch takes up to ``most`` of it.
    """

    def __init__(self, run: Callable[[Sequence[Item]], Sequence[Answer]], most: int) -> None:
        """Takes the function, which answers a sequence of items in their order, and the largest batch."""
        self._run, self._most = run, most
        self._waiting: dict[Hashable, list[tuple[Item, Future[Answer]]]] = defaultdict(list)
        self._lock, self._running = Lock(), Lock()

    @property
    def waiting(self) -> int:
        """How many items wait for the batch under way to end."""
        return sum(len(items) for items in self._waiting.values())

    def ask(self, kind: Hashable, item: Item) -> Answer:
        """Returns the answer to an item.

        Args:
            kind: Only items of the same kind go into one batch, such as tensors of one shape.
            item: What the function is asked.

        Raises:
            Exception: What the function raised, to everybody in its batch.
        """
        mine: Future[Answer] = Future()
        with self._lock:
            self._waiting[kind].append((item, mine))
        with self._running:
            while not mine.done():  # else another thread's batch has answered
                self._answer(kind)
        return mine.result()

    def _answer(self, kind: Hashable) -> None:
        with self._lock:
            batch = self._waiting[kind][: self._most]
            rest = self._waiting[kind][self._most :]
            if rest:
                self._waiting[kind] = rest
            else:
                del self._waiting[kind]
        try:
            answers = self._run([item for item, _ in batch])
        except BaseException as error:
            for _, future in batch:
                future.set_exception(error)
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                future.set_result(answer)
