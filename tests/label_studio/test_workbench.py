"""What lies before the annotator: the draft, and what was answered since."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.label_studio.regions import AcceptedMask
from ihp_backend.label_studio.workbench import Scene, Workbench

SHAPE = (60, 80)
FACE = Click(15.0, 15.0, "Face")


def square(top: int, left: int, side: int = 20) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def seen(
    bench: Workbench,
    *,
    drawn: tuple[AcceptedMask, ...] = (),
    clicks: tuple[Click, ...] = (),
    still_open: tuple[str, ...] = (),
):
    found = bench.accepted("1 7", drawn, clicks, still_open, SHAPE)
    return {a.id: a for a in found}


def test_an_answer_counts_as_accepted_once_its_keypoint_is_gone() -> None:
    bench = Workbench()
    bench.remember("1 7", "r1", "Hair", square(0, 0), {"k1"})
    assert seen(bench, still_open=("k1",)) == {}  # the suggestion is open, or was rejected
    (hair,) = seen(bench, still_open=("k2",)).values()
    assert (hair.id, hair.label) == ("r1", "Hair")
    assert np.array_equal(hair.mask, square(0, 0))
    assert bench.accepted("1 8", [], [], [], SHAPE) == []
    assert bench.accepted("2 7", [], [], [], SHAPE) == []


def test_a_click_of_another_label_into_it_says_it_was_rejected() -> None:
    bench = Workbench()
    bench.remember("1 7", "r1", "Hair", square(0, 0), {"k1"})
    assert seen(bench, clicks=(FACE,)) == {}
    assert seen(bench, clicks=(Click(70, 50, "Face"),)).keys() == {"r1"}
    assert seen(bench, clicks=(Click(15, 15, "Face", is_positive=False),)).keys() == {"r1"}


def test_a_mask_of_the_draft_into_which_another_label_is_clicked_is_a_guess() -> None:
    hair, coat = AcceptedMask("r1", "Hair", square(0, 0)), AcceptedMask("r2", "Coat", square(30, 30))
    found = seen(Workbench(), drawn=(hair, coat), clicks=(FACE,))
    assert (found["r1"].is_guess, found["r2"].is_guess) == (True, False)


def test_a_correction_that_is_not_in_the_draft_yet_is_newer_than_it() -> None:
    bench = Workbench()
    old = AcceptedMask("r1", "Hair", square(0, 0))
    bench.remember("1 7", "r1", "Hair", square(0, 0, 30), {"k2"})
    assert np.array_equal(seen(bench, drawn=(old,))["r1"].mask, square(0, 0, 30))
    assert np.array_equal(seen(bench, drawn=(old,), still_open=("k2",))["r1"].mask, old.mask)


def test_it_forgets_after_a_minute_and_photos_of_another_size() -> None:
    clock = Clock()
    bench = Workbench(clock)
    bench.remember("1 7", "r1", "Hair", square(0, 0), {"k1"})
    bench.remember("1 7", "r2", "Hat", np.ones((5, 5), bool), {"k1"})
    bench.remember("1 7", "r3", "Coat", np.zeros(SHAPE, bool), {"k1"})
    assert seen(bench).keys() == {"r1"}
    clock.now += 61
    assert seen(bench) == {}


def test_it_is_bounded() -> None:
    bench = Workbench()
    for number in range(1000):
        bench.remember(f"1 {number}", "r", "Hair", square(0, 0), ())
        bench.remember("1 0", f"r{number}", "Hair", square(0, 0), ())
    assert len(bench._tasks) <= 64
    assert len(bench._tasks["1 0"]) <= 40


def scene(*accepted: AcceptedMask, clicks: tuple[Click, ...] = (FACE,)) -> Scene:
    return Scene(clicks, (), accepted, frozenset({"k"}))


def test_a_click_in_or_near_a_mask_of_its_label_corrects_it_and_keeps_its_id() -> None:
    mine = AcceptedMask("r1", "Face", square(10, 10))
    there = scene(mine, clicks=(Click(35, 15, "Face"),))
    assert there.corrected("Face") is mine
    (answer,) = there.answers("Face", {"Face": square(10, 10) | square(10, 30, 10)}, mine)
    assert answer.id == "r1"
    assert np.array_equal(answer.mask, square(10, 10) | square(10, 30, 10))
    assert there.guides("Face", mine).keys() == {"Face"}


def test_a_click_far_from_it_begins_a_new_mask_and_leaves_it_alone() -> None:
    mine = AcceptedMask("r1", "Face", square(0, 0, 10))
    there = scene(mine, clicks=(Click(60, 40, "Face"),))
    assert there.corrected("Face") is None
    assert there.guides("Face", None) == {}
    (answer,) = there.answers("Face", {"Face": square(30, 50) | square(0, 0, 10)}, None)
    assert answer.id != "r1"
    assert np.array_equal(answer.mask, square(30, 50))


def test_the_newest_click_says_which_mask_is_meant() -> None:
    one, two = AcceptedMask("r1", "Face", square(0, 0, 10)), AcceptedMask("r2", "Face", square(0, 30, 10))
    assert scene(one, two, clicks=(Click(5, 5, "Face"), Click(33, 5, "Face"))).corrected("Face") is two


def test_accepted_masks_of_others_are_shown_and_guesses_are_not() -> None:
    hair, hat, guess = (
        AcceptedMask("a", "Hair", square(0, 0)),
        AcceptedMask("b", "Hair", square(30, 0)),
        AcceptedMask("c", "Coat", square(30, 40), is_guess=True),
    )
    guides = scene(hair, hat, guess).guides("Face", None)
    assert guides.keys() == {"Hair"}
    assert np.array_equal(guides["Hair"], square(0, 0) | square(30, 0))


def test_a_guess_gives_way_and_is_answered_again() -> None:
    guess = AcceptedMask("g", "Coat", square(10, 10), is_guess=True)
    apart = AcceptedMask("h", "Hat", square(40, 50, 10), is_guess=True)
    covered = AcceptedMask("i", "Scarf", square(12, 12, 3), is_guess=True)
    new, rest = scene(guess, apart, covered).answers("Face", {"Face": square(10, 10, 15)}, None)
    assert (new.label, rest.label, rest.id) == ("Face", "Coat", "g")
    assert not (new.mask & rest.mask).any()
    assert np.array_equal(new.mask | rest.mask, square(10, 10))


def test_a_guess_of_the_own_label_is_replaced_as_a_whole() -> None:
    guess = AcceptedMask("g", "Face", square(10, 10), is_guess=True)
    (answer,) = scene(guess).answers("Face", {"Face": square(0, 0)}, guess)
    assert answer.id == "g"
    assert np.array_equal(answer.mask, square(0, 0))


def test_nothing_is_answered_where_nothing_is_left() -> None:
    away = (Click(70.0, 50.0, "Face"),)
    covered = scene(AcceptedMask("a", "Face", square(0, 0)), clicks=away)
    assert covered.answers("Face", {"Face": square(0, 0)}, None) == []
    assert scene().answers("Face", {"Face": np.zeros(SHAPE, bool)}, None) == []
