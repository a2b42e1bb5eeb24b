"""Whose a click is, by the masks that are there and by who is seen in the photo."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from masks_by_hand import hair, square, state_of
from numpy.typing import NDArray

from ihp_backend.annotation.answer import answer_masks
from ihp_backend.annotation.clicked_person import clicked_person
from ihp_backend.clicks import Click
from ihp_backend.geometry import Box

LEFT, RIGHT = replace(hair(square(0, 0)), person=1), replace(hair(square(0, 50), "r2"), person=2)


@dataclass
class Halves:
    """One person at the left of column 40, another one at its right; nobody below row 50."""

    edge: int = 40

    def at(self, x: float, y: float) -> int | None:
        return None if y >= 50 else 7 if x < self.edge else 4

    def under(self, box: Box, inside: NDArray[np.bool_]) -> int | None:
        return self.at((box.left + box.right) / 2, (box.top + box.bottom) / 2)


def test_the_masks_on_the_clicked_person_say_who_it_is() -> None:
    for x, person in ((5, 1), (39, 1), (41, 2), (75, 2)):
        assert clicked_person([LEFT, RIGHT], [Click(x, 30, "Face")], Halves()) == person
        assert clicked_person([RIGHT, LEFT], [Click(x, 30, "Face")], Halves()) == person


def test_most_of_the_masks_decide() -> None:
    small = replace(hair(square(30, 30, 5), "r3"), person=9)
    assert clicked_person([small, LEFT], [Click(32, 32, "Face")], Halves()) == 1


def test_somebody_without_masks_gets_the_next_number() -> None:
    face = Click(70, 30, "Face")
    assert clicked_person([], [face], Halves()) == 1
    assert clicked_person([LEFT], [face], Halves()) == 2
    assert clicked_person([replace(LEFT, person=5)], [face], Halves()) == 6
    assert clicked_person([LEFT, replace(RIGHT, person=None)], [face], Halves()) == 2, "who does not say has no say"


def test_a_click_in_a_mask_is_of_its_person_where_nobody_else_is_seen() -> None:
    low = replace(hair(square(40, 0)), person=3)
    assert clicked_person([LEFT, low], [Click(5, 55, "Face")], Halves()) == 3
    assert clicked_person([LEFT, low], [Click(70, 55, "Face")], Halves()) == 4


def test_the_newest_positive_click_decides() -> None:
    left, right = Click(5, 30, "Face"), Click(70, 30, "Face")
    assert clicked_person([LEFT, RIGHT], [left, right], Halves()) == 2
    assert clicked_person([LEFT, RIGHT], [left, replace(right, is_positive=False)], Halves()) == 1
    assert clicked_person([LEFT, RIGHT], [replace(right, is_positive=False)], Halves()) == 2


def test_a_click_corrects_a_mask_of_the_same_person_only() -> None:
    """The other one's is near: without a word of whose it is, it would be taken."""
    state = state_of(replace(LEFT, from_prediction=True), clicks=(Click(25, 10, "Hair"),))
    assert state.corrected("Hair") is state.accepted[0]
    assert state.corrected("Hair", 1) is state.accepted[0]
    assert state.corrected("Hair", 2) is None
    (answer,) = answer_masks(state, "Hair", {"Hair": square(0, 22)}, None, person=2)
    assert (answer.person, answer.id == "r1") == (2, False)
    unknown = state_of(replace(LEFT, person=None), clicks=(Click(25, 10, "Hair"),))
    corrected = unknown.corrected("Hair", 2)
    assert corrected is unknown.accepted[0]
    (answer,) = answer_masks(unknown, "Hair", {"Hair": square(0, 22)}, corrected, person=2)
    assert (answer.person, answer.id) == (2, "r1")
