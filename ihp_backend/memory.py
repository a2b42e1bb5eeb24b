"""One budget for the memory that requests take together: parsed JSON, decoded photos, masks.

What is large is taken before it is made, and given back when it is gone. Who finds too little waits a moment, and is
then told to come again; what would not fit if it were alone is refused at once.
"""

from __future__ import annotations

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

    Args:
        total: Bytes that may be taken at the same time.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total
        self._changed = Condition()

    @property
    def most_of_large(self) -> int:
        """Bytes that large takings share: they leave a quarter to small ones. What is even larger may take all."""
        return self.total * 3 // 4

    @contextmanager
    def taken(self, size: int, what: str) -> Iterator[None]:
        """Takes so many bytes for the block.

        Args:
            size: Bytes.
            what: What they are for, in an error.

        Raises:
            MemoryLimitError: If they do not fit, or others do not give enough back in ``WAIT_S``.
        """
        if size > self.total:
            raise MemoryLimitError(
                f"{what} takes {_mb(size)} MB; expected at most {_mb(self.total)} MB (IHP_REQUEST_MEMORY_MB)",
                is_temporary=False,
            )
        is_large = self.total // 8 < size <= self.most_of_large
        needed = size + (self.total - self.most_of_large) * is_large
        with self._changed:
            if not self._changed.wait_for(lambda: self.free >= needed, WAIT_S):
                raise MemoryLimitError(
                    f"{what} takes {_mb(size)} MB, and other requests leave {_mb(self.free)}; try again in a moment",
                    is_temporary=True,
                )
            self.free -= size
        try:
            yield
        finally:
            with self._changed:
                self.free += size
                self._changed.notify_all()


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
