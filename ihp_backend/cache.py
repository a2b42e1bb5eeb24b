"""A bounded memory of what is costly to load, shared by threads."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

from ihp_backend.memory import MemoryLimitError

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LoadingCache(Generic[Key, Value]):
    """Keeps the values used last, up to a total size, and loads each missing one once.

    Args:
        capacity: Total size that is kept, in the unit of ``size_of``; 0 keeps nothing, and threads that ask for one
            key at the same time still share one load.
        size_of: Size of a value, such as its bytes.
        most_waiting: So many threads may wait for another one's load; ``None``: any number.

    Attributes:
        hits: How often a value was there, or was being loaded for another thread.
        misses: How often a value had to be loaded.
    """

    def __init__(self, capacity: int, size_of: Callable[[Value], int], most_waiting: int | None = None) -> None:
        self.hits = 0
        self.misses = 0
        self._capacity = capacity
        self._most_waiting = most_waiting
        self._waiting: Counter[Key] = Counter()
        self._size_of = size_of
        self._size = 0
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._loading: dict[Key, Future[Value]] = {}
        self._lock = Lock()

    @property
    def size(self) -> int:
        """Total size of what is kept; never more than the capacity."""
        return self._size

    def get(self, key: Key, load: Callable[[], Value]) -> Value:
        """Returns the value of a key.

        Args:
            key: What names the value.
            load: Makes the value, outside of any lock. It must not ask for the same key.

        Raises:
            MemoryLimitError: If too many threads wait for it already.
            Exception: What ``load`` raised, to every thread that waited for it. A failure is not kept.
        """
        with self._lock:
            if key in self._values:
                self.hits += 1
                self._values.move_to_end(key)
                return self._values[key]
            running = self._loading.get(key)
            if running is None:
                self.misses += 1
                mine = self._loading[key] = Future[Value]()
            elif self._most_waiting is not None and self._waiting[key] >= self._most_waiting:
                raise MemoryLimitError("too many requests wait for this; try again in a moment", is_temporary=True)
            else:
                self.hits += 1
                self._waiting[key] += 1
        if running is not None:
            try:
                return running.result()
            finally:
                with self._lock:
                    self._waiting -= Counter([key])  # one that waits no more is forgotten
        try:
            value = load()
            size = self._size_of(value)
        except BaseException as error:
            with self._lock:
                del self._loading[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._loading[key]
            self._keep(key, value, size)
        mine.set_result(value)
        return value

    def clear(self) -> None:
        """Forgets all values; what is being loaded is kept when it comes."""
        with self._lock:
            self._values.clear()
            self._size = 0

    def _keep(self, key: Key, value: Value, size: int) -> None:
        if size > self._capacity:
            return
        self._values[key] = value
        self._size += size
        while self._size > self._capacity:
            _, oldest = self._values.popitem(last=False)
            self._size -= self._size_of(oldest)
