"""One budget for the memory that requests take together: parsed JSON, decoded photos, masks.

What is large is taken before it is made, and given back when it is gone. Who finds too little waits a moment, and is
then told to come again; what would not fit if it were alone is refused at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Condition

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
        with self._changed:
            if not self._changed.wait_for(lambda: self.free >= size, WAIT_S):
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


_current: ContextVar[MemoryBudget | None] = ContextVar("memory_budget", default=None)


@contextmanager
def limited_by(budget: MemoryBudget) -> Iterator[None]:
    """Lets ``reserved`` take from a budget in the block."""
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def reserved(size: int, what: str) -> Iterator[None]:
    """Takes so many bytes of the budget that holds here; nothing where none does, as in a command. See ``taken``."""
    budget = _current.get()
    if budget is None:
        yield
    else:
        with budget.taken(size, what):
            yield


def _mb(size: int) -> int:
    return -(-size // 10**6)
