"""Many threads, few batches, and everybody's own answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from ihp_backend.inference.batching import Batching


class Slow:
    """Squares; the first batch waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.begun.set()
        assert self.go.wait(10)
        if 13 in items:
            raise ValueError("thirteen")
        return [i * i for i in items]


def test_what_is_asked_meanwhile_is_one_batch() -> None:
    slow = Slow()
    batching = Batching(slow, most=4)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batching.ask, "a", 100)
        assert slow.begun.wait(10)
        others = [pool.submit(batching.ask, "a", i) for i in range(6)] + [pool.submit(batching.ask, "b", 9)]
        while batching.waiting < 7:
            pass
        slow.go.set()
        assert first.result() == 10000
        assert [f.result() for f in others] == [0, 1, 4, 9, 16, 25, 81]
    assert slow.batches[0] == [100]
    sizes = sorted(len(batch) for batch in slow.batches[1:])
    assert sizes == [1, 2, 4]  # six of a kind, four at most in a batch; the other kind by itself
    assert [9] in slow.batches
    assert batching.waiting == 0


def test_who_is_alone_does_not_wait() -> None:
    slow = Slow()
    slow.go.set()
    batching = Batching(slow, most=4)
    assert [batching.ask("a", i) for i in range(3)] == [0, 1, 4]
    assert slow.batches == [[0], [1], [2]]


def test_an_error_reaches_its_batch_and_no_other() -> None:
    slow = Slow()
    slow.go.set()
    batching = Batching(slow, most=4)
    with pytest.raises(ValueError, match="thirteen"):
        batching.ask("a", 13)
    assert batching.ask("a", 2) == 4
