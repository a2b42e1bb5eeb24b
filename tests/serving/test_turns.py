"""Requests of one task wait for each other, those of others do not."""

from __future__ import annotations

from threading import Event, Thread
from time import sleep

import pytest

from ihp_backend.serving.turns import Turns


def test_who_came_first_is_first() -> None:
    turns, done, order, threads = Turns(), Event(), list[int](), list[Thread]()

    def ask(number: int) -> None:
        with turns.turn("1 7"):
            if number == 0:
                done.wait(10)
            order.append(number)

    for number in range(5):
        threads.append(Thread(target=ask, args=(number,)))
        threads[-1].start()
        sleep(0.02)  # it is in the queue before the next one comes
    with turns.turn("1 8"):
        assert order == [], "another task goes on"
    done.set()
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]


def test_after_an_error_the_next_one_is_let_in() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.turn("1 7"):
        raise ZeroDivisionError
    with turns.turn("1 7"):
        pass
