"""A cache bounded in bytes, in which concurrent asks for one key load once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ImageCache(Generic[K, V]):
    """Keeps the values that were asked for last, up to a number of bytes. May be shared between threads.

    Args:
        max_bytes: Sum of the sizes kept; 0 keeps nothing.
        size: Returns the bytes of a value.
    """

    def __init__(self, max_bytes: int, size: Callable[[V], int]) -> None:
        self._max_bytes = max_bytes
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._loading: dict[K, Future[V]] = {}
        self._bytes = 0
        self._lock = Lock()

    @property
    def bytes(self) -> int:
        """Sum of the sizes of what is kept."""
        return self._bytes

    def get(self, key: K, load: Callable[[], V]) -> V:
        """Returns the key's value, loaded if it is not kept.

        While one thread loads, others that ask for the same key wait for it and get the same value, or the
        same error. An error is not kept: the next ask loads again. A value larger than the cache is returned
        and not kept.

        Args:
            key: Names the value.
            load: Makes the value; must not ask for the same key.

        Raises:
            BaseException: Whatever ``load`` raises.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            loading = self._loading.get(key)
            if loading is None:
                mine = self._loading[key] = Future()
        if loading is not None:
            return loading.result()
        try:
            value = load()
            size = self._size(value)
        except BaseException as error:
            with self._lock:
                del self._loading[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._loading[key]
            if size <= self._max_bytes:
                self._values[key] = value
                self._bytes += size
            while self._bytes > self._max_bytes:
                _, oldest = self._values.popitem(last=False)
                self._bytes -= self._size(oldest)
        mine.set_result(value)
        return value
