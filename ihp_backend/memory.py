"""One budget for the memory that requests take together: parsed JSON, decoded photos, masks.

What is large is taken before it is made, and given back when it is gone. Who finds too little waits a moment, and is
then told to come again; what would not fit if it were alone is refused at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import BoundedSemaphore, Condition

WAIT_S = 10.0
"""So long a request waits for memory that others have."""


class MemoryLimitError(RuntimeError):
    """A request wants more memory than there is for requests.

    Attributes:
        is_temporary: It would fit if there were no others.
    """

    def __init__(self, message: str, *, is_temporary: bool) -> None:
        super().__init__(message)
        self.is_temporary = is_temporary


class MemoryBudget:
    """Counts what is taken. May be shared between threads.

    What is large, more than an eighth, shares three quarters. While one of them waits, small ones share the last
    quarter, for 5 s at most. Both come in their order: so each gets its turn, however many there are of the others.

    Args:
        total: Bytes that may be taken at the same time.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._taken = {True: 0, False: 0}  # by what is large, and what is small
        self._asking = self._most = 0
        self._waiting: dict[bool, deque[object]] = {True: deque(), False: deque()}
        self._changed = Condition()

    @property
    def free(self) -> int:
        """Bytes that nobody has."""
        return self.total - sum(self._taken.values())

    @property
    def most_of_large(self) -> int:
        """Bytes that large takings share."""
        return self.total * 3 // 4

    def was_large(self) -> bool:
        """Whether more than a quarter was taken at a time since this last returned true, and nothing large is now."""
        with self._changed:
            is_over = self._most > self.total // 4 and not self._taken[True]
            if is_over:
                self._most = 0
        return is_over

    @contextmanager
    def taken(self, size: int, what: str) -> Iterator[None]:
        """Takes so many bytes for the block.

        Args:
            size: Bytes.
            what: What they are for, in an error.

        Raises:
            MemoryLimitError: If they are more than large ones share, or others do not give enough back in ``WAIT_S``.
        """
        if size > self.most_of_large:
            raise MemoryLimitError(
                f"{what} takes {_mb(size)} MB; expected at most {_mb(self.most_of_large)} MB, three quarters of "
                "IHP_REQUEST_MEMORY_MB",
                is_temporary=False,
            )
        is_large = size > self.total // 8
        with self._changed:
            if not self._wait(size, is_large):
                raise MemoryLimitError(
                    f"{what} takes {_mb(size)} MB, and other requests leave {_mb(self.free)}; try again in a moment",
                    is_temporary=True,
                )
            self._taken[is_large] += size
            self._most = max(self._most, self.total - self.free)
        try:
            yield
        finally:
            with self._changed:
                self._taken[is_large] -= size
                self._changed.notify_all()

    def _wait(self, size: int, is_large: bool) -> bool:
        """Waits in a queue of its own for large and small ones; returns whether the bytes are free."""
        place, queue = object(), self._waiting[is_large]

        def fits() -> bool:
            return queue[0] is place and self._fits(size, is_large)

        queue.append(place)
        try:
            with self._before_small_ones(is_large):
                found = self._changed.wait_for(fits, WAIT_S / 2)
            return found or self._changed.wait_for(fits, WAIT_S / 2)
        finally:
            queue.remove(place)
            self._changed.notify_all()

    @contextmanager
    def _before_small_ones(self, is_large: bool) -> Iterator[None]:
        """Half of the time that anybody waits: requests that wait with much in hand may never leave it enough."""
        self._asking += is_large
        try:
            yield
        finally:
            self._asking -= is_large
            self._changed.notify_all()

    def _fits(self, size: int, is_large: bool) -> bool:
        most = self.most_of_large
        if not is_large:
            most = self.total - (most if self._asking else 0)
        return size <= min(self.free, most - self._taken[is_large])


class Lane:
    """Places to do something that takes memory, and a queue of bounded length before them.

    Args:
        places: How many may do it at the same time.
        queue: How many may wait for a place.
    """

    def __init__(self, places: int, queue: int) -> None:
        self._places = BoundedSemaphore(places)
        self._all = BoundedSemaphore(places + queue)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Has a place for the block.

        Raises:
            MemoryLimitError: If too many wait already; it is temporary.
        """
        if not self._all.acquire(blocking=False):
            raise MemoryLimitError("too many such images wait to be decoded; try again in a moment", is_temporary=True)
        try:
            with self._places:
                yield
        finally:
            self._all.release()


@dataclass
class _Taken:
    """What one request has taken of a budget."""

    budget: MemoryBudget
    size: int = 0


_current: ContextVar[_Taken | None] = ContextVar("memory_taken", default=None)


@contextmanager
def limited_by(budget: MemoryBudget) -> Iterator[None]:
    """Lets ``reserved`` take from a budget in the block, for one request."""
    token = _current.set(_Taken(budget))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def reserved(size: int, what: str, *, or_most: bool = False) -> Iterator[None]:
    """Takes so many bytes of the budget that holds here; nothing where none does, as in a command. See ``taken``.

    Args:
        size: Bytes.
        what: What they are for, in an error.
        or_most: What would not fit if it were alone takes the most there is for large ones.
    """
    own = _current.get()
    if own is None:
        yield
        return
    if or_most:
        size = min(size, max(0, own.budget.most_of_large - own.size))
    with own.budget.taken(size, what):
        own.size += size
        try:
            yield
        finally:
            own.size -= size


def _mb(size: int) -> int:
    return -(-size // 10**6)
