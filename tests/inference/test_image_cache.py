from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from time import sleep

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ihp_backend.inference.image_cache import ImageCache


@given(st.integers(0, 12), st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), max_size=40))
def test_keeps_what_was_asked_for_last(capacity: int, asks: list[tuple[int, int]]) -> None:
    cache: ImageCache[int, bytes] = ImageCache(capacity, len)
    model: OrderedDict[int, bytes] = OrderedDict()  # a plain list of what must be kept
    for key, size in asks:
        loads: list[int] = []

        def load(key: int = key, size: int = size, loads: list[int] = loads) -> bytes:
            loads.append(key)
            return bytes(size)

        value = cache.get(key, load)
        assert (loads == []) == (key in model)
        if key in model:
            model.move_to_end(key)
        elif size <= capacity:
            model[key] = value
        while sum(map(len, model.values())) > capacity:
            model.popitem(last=False)
        assert cache.bytes == sum(map(len, model.values())) <= capacity


def test_concurrent_asks_load_once() -> None:
    cache: ImageCache[str, bytes] = ImageCache(10, len)
    started, go = Event(), Event()
    loads: list[int] = []

    def load() -> bytes:
        loads.append(1)
        started.set()
        assert go.wait(5)
        return b"value"

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(cache.get, "a", load) for _ in range(8)]
        assert started.wait(5)
        assert cache.get("b", lambda: b"") == b""  # another key does not wait
        go.set()
        values = [answer.result(5) for answer in answers]
    assert len(loads) == 1
    assert all(value is values[0] for value in values)


def test_failure_reaches_all_waiters_and_is_not_kept() -> None:
    cache: ImageCache[str, bytes] = ImageCache(10, len)
    started, go = Event(), Event()

    def fail() -> bytes:
        started.set()
        assert go.wait(5)
        raise ValueError("no such picture")

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(cache.get, "a", fail)
        assert started.wait(5)
        others = [pool.submit(cache.get, "a", lambda: b"another load") for _ in range(2)]
        while len(cache._loading["a"]._condition._waiters) < 2:  # type: ignore[attr-defined]
            sleep(0.001)
        go.set()
        for answer in [first, *others]:
            with pytest.raises(ValueError, match="no such picture"):
                answer.result(5)
    assert cache.get("a", lambda: b"found") == b"found"


def test_many_threads_and_keys_stay_within_bounds() -> None:
    cache: ImageCache[int, bytes] = ImageCache(50, len)
    barrier = Barrier(8)

    def ask(seed: int) -> bool:
        barrier.wait(5)
        return all(
            len(cache.get(key, lambda key=key: bytes(key))) == key
            for key in [(seed * 7 + step * 13) % 31 for step in range(300)]
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))
    assert 0 < cache.bytes <= 50
