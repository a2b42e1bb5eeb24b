"""One budget of memory for all requests."""

from __future__ import annotations

from threading import Event, Thread

import pytest

from ihp_backend import memory
from ihp_backend.memory import MemoryBudget, MemoryLimitError, limited_by, reserved


def test_what_is_taken_is_given_back_after_an_error_too() -> None:
    budget = MemoryBudget(10)
    with budget.taken(4, "a photo"), budget.taken(6, "masks"):
        assert budget.free == 0
    assert budget.free == 10
    with pytest.raises(ZeroDivisionError), budget.taken(10, "a photo"):
        raise ZeroDivisionError
    assert budget.free == 10


def test_what_would_not_fit_alone_is_refused_at_once() -> None:
    refused = pytest.raises(MemoryLimitError, match=r"a photo takes 3 MB; expected at most 2 MB")
    with refused as caught, MemoryBudget(2_000_000).taken(2_000_001, "a photo"):
        pass
    assert not caught.value.is_temporary


def test_who_finds_too_little_waits_a_moment_and_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "WAIT_S", 0.02)
    budget = MemoryBudget(10)
    with budget.taken(5, "a photo"):
        with pytest.raises(MemoryLimitError, match="try again in a moment") as caught, budget.taken(6, "masks"):
            pass
        assert caught.value.is_temporary
        assert budget.free == 5


def test_who_waits_goes_on_when_others_give_back() -> None:
    budget, holds, done = MemoryBudget(10), Event(), Event()

    def other() -> None:
        holds.wait()
        with budget.taken(8, "masks"):
            done.set()

    thread = Thread(target=other)
    thread.start()
    with budget.taken(5, "a photo"):
        holds.set()
        assert not done.wait(0.05)
    assert done.wait(5)
    thread.join()


def test_reserved_takes_of_the_budget_that_holds_here() -> None:
    budget = MemoryBudget(10)
    with reserved(99, "a command has no budget"):
        pass
    with limited_by(budget):
        with reserved(7, "a photo"):
            assert budget.free == 3
        assert budget.free == 10
    with reserved(99, "outside again"):
        assert budget.free == 10
