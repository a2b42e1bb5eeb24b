"""Who comes first is answered first; other names do not wait."""

from __future__ import annotations

from threading import Event, Thread

import pytest

from ihp_backend.serving.turns import Turns


def test_turns_are_taken_in_order_and_given_back_after_an_error() -> None:
    turns, order, go_on = Turns(), list[int](), Event()
    inside = [Event() for _ in range(3)]

    def work(number: int) -> None:
        with turns.turn("task"):
            inside[number].set()
            assert go_on.wait(10)
            order.append(number)

    threads = [Thread(target=work, args=(number,)) for number in range(3)]
    threads[0].start()
    assert inside[0].wait(10)
    for thread in threads[1:]:
        thread.start()
        thread.join(0.1)
    assert not inside[1].is_set()
    with turns.turn("another task"):
        go_on.set()
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2]
    with pytest.raises(ValueError, match="broken"), turns.turn("task"):
        raise ValueError("broken")
    with turns.turn("task"):
        pass
