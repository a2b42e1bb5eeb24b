from __future__ import annotations

import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Lock, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import eventually

from ihp_backend.cache import LoadingCache


def cache_of_bytes(capacity: int) -> LoadingCache[str, bytes]:
    return LoadingCache(capacity, len)


@given(st.integers(0, 12), st.lists(st.integers(0, 7), max_size=60))
def test_it_keeps_what_was_used_last_and_never_more_than_its_capacity(capacity: int, asked: list[int]) -> None:
    cache = LoadingCache[int, bytes](capacity, len)
    kept: OrderedDict[int, int] = OrderedDict()  # the simplest thing that could be right
    for key in asked:
        loaded: list[int] = []

        def load(key: int = key, loaded: list[int] = loaded) -> bytes:
            loaded.append(key)
            return bytes(key)

        assert cache.get(key, load) == bytes(key)
        assert bool(loaded) == (key not in kept)
        if key in kept:
            kept.move_to_end(key)
        elif key <= capacity:
            kept[key] = key
            while sum(kept) > capacity:
                kept.popitem(last=False)
        assert cache.size == sum(kept) <= capacity
    assert cache.hits + cache.misses == len(asked)


def test_threads_that_ask_for_one_key_share_one_load() -> None:
    cache, loads, lock = cache_of_bytes(0), [], Lock()
    everyone_asks = Barrier(8)

    def load() -> bytes:
        with lock:
            loads.append(1)
        time.sleep(0.05)
        return b"value"

    def ask() -> bytes:
        everyone_asks.wait()
        return cache.get("key", load)

    with ThreadPoolExecutor(8) as pool:
        answers = [done.result() for done in [pool.submit(ask) for _ in range(8)]]
    assert answers == [b"value"] * 8
    assert len(loads) == 1
    assert (cache.hits, cache.misses) == (7, 1)


def test_a_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    cache, started, go = cache_of_bytes(10), Event(), Event()

    def fail() -> bytes:
        started.set()
        go.wait()
        raise OSError("no such image")

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(cache.get, "key", fail)
        started.wait()
        others = [pool.submit(cache.get, "key", fail) for _ in range(2)]
        while cache.hits < 2:
            time.sleep(0.001)
        go.set()
        for asked in (first, *others):
            with pytest.raises(OSError, match="no such image"):
                asked.result()
    assert cache.misses == 1
    assert cache.get("key", lambda: b"there") == b"there"


@pytest.mark.parametrize("where", ["load", "size_of"])
def test_who_waits_for_a_load_that_fails_is_told(where: str) -> None:
    """Whatever fails, and however: nobody waits for ever, and the next one loads anew."""
    started, go, ends = Event(), Event(), list[BaseException]()

    def size_of(value: bytes) -> int:
        raise SystemExit("no size")

    def load() -> bytes:
        started.set()
        go.wait(10)
        if where == "load":
            raise SystemExit("no image")
        return b"there"

    cache: LoadingCache[str, bytes] = LoadingCache(10, size_of)

    def ask() -> None:
        try:
            cache.get("key", load)
        except BaseException as error:
            ends.append(error)

    threads = [Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
        assert started.wait(10)
    eventually(lambda: cache.hits == 2)
    go.set()
    for thread in threads:
        thread.join(10)
    assert [type(error) for error in ends] == [SystemExit] * 3
    with pytest.raises(SystemExit):
        cache.get("key", load)
    assert cache.misses == 2


def test_a_slow_load_does_not_block_other_keys() -> None:
    cache, go = cache_of_bytes(10), Event()

    def slow() -> bytes:
        go.wait()
        return b"slow"

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.get, "slow", slow)
        assert cache.get("fast", lambda: b"fast") == b"fast"
        assert not waiting.done()
        go.set()
        assert waiting.result() == b"slow"


def test_no_more_threads_wait_for_one_load_than_may() -> None:
    cache: LoadingCache[str, int] = LoadingCache(10, lambda value: 1, most_waiting=2)
    go_on = Event()

    def load() -> int:
        go_on.wait(10)
        return 1

    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(cache.get, "slow", load) for _ in range(6)]
        try:
            eventually(lambda: sum(a.done() for a in asked) == 3)
            assert cache.get("other", lambda: 2) == 2
        finally:
            go_on.set()
    assert sorted(type(a.exception()).__name__ for a in asked) == ["MemoryLimitError"] * 3 + ["NoneType"] * 3
    assert cache.get("slow", load) == 1
