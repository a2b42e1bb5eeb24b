"""What lies before the annotator: the draft, and what was answered since."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from masks_by_hand import FACE, hair, sorted_state, square, state_of

from ihp_backend.annotation.masks import AcceptedMask, TimedClick
from ihp_backend.annotation.state import AnnotationState
from ihp_backend.clicks import Click


def test_of_many_clicks_behind_accepted_masks_the_newest_are_shown() -> None:
    made = [TimedClick(Click(float(i), 1.0, "Hair"), at=i) for i in range(300)]
    masks = [replace(hair(region=f"r{i}"), clicks=tuple(made[i::10])) for i in range(10)]
    shown = AnnotationState.of([FACE], [], masks, ()).earlier_clicks("Face", None)
    assert shown == [timed.click for timed in made[100:]]


def test_a_click_of_another_label_into_it_says_it_was_rejected() -> None:
    assert sorted_state(FACE, [], [hair()]).accepted == []
    negative = Click(15.0, 15.0, "Face", is_positive=False)
    assert len(sorted_state(negative, [], [hair()]).accepted) == 1


def test_a_mask_of_the_draft_into_which_another_label_is_clicked_counts_as_predicted() -> None:
    coat = AcceptedMask("r2", "Coat", square(30, 30))
    found = {m.id: m.from_prediction for m in sorted_state(FACE, [hair(), coat], []).accepted}
    assert found == {"r1": True, "r2": False}


def test_a_second_correction_goes_on_from_the_first_before_the_draft_has_it() -> None:
    drawn, corrected = hair(square(0, 0)), hair(square(0, 0, 30))
    again = sorted_state(Click(5, 5, "Hair", is_positive=False), [drawn], [corrected])
    mine = again.corrected("Hair")
    assert mine is not None
    assert np.array_equal(mine.mask, corrected.mask)
    other = sorted_state(Click(70, 50, "Face"), [drawn], [corrected])
    assert np.array_equal(other.mask_prompts("Face", None)["Hair"], corrected.mask)


def test_the_newest_click_says_which_mask_is_meant() -> None:
    one, two = AcceptedMask("r1", "Face", square(0, 0, 10)), AcceptedMask("r2", "Face", square(0, 30, 10))
    assert state_of(one, two, clicks=(Click(5, 5, "Face"), Click(33, 5, "Face"))).corrected("Face") is two


def test_accepted_masks_of_others_are_shown_and_predicted_ones_are_not() -> None:
    one, two, predicted = (
        AcceptedMask("a", "Hair", square(0, 0)),
        AcceptedMask("b", "Hair", square(30, 0)),
        AcceptedMask("c", "Coat", square(30, 40), from_prediction=True),
    )
    prompts = state_of(one, two, predicted).mask_prompts("Face", None)
    assert prompts.keys() == {"Hair"}
    assert np.array_equal(prompts["Hair"], square(0, 0) | square(30, 0))


def test_a_click_as_far_away_as_half_the_mask_corrects_it_and_one_farther_does_not() -> None:
    mine = AcceptedMask("r1", "Face", square(10, 10))  # 20 pixels wide, up to column 29
    assert state_of(mine, clicks=(Click(39.5, 15.5, "Face"),)).corrected("Face") is mine
    assert state_of(mine, clicks=(Click(40.5, 15.5, "Face"),)).corrected("Face") is None
    assert state_of(mine, clicks=(Click(15.5, 39.5, "Face"),)).corrected("Face") is mine
    assert state_of(mine, clicks=(Click(15.5, 40.5, "Face"),)).corrected("Face") is None
    assert state_of(mine, clicks=(Click(15.5, 15.5, "Hair"), Click(60.5, 15.5, "Face"))).corrected("Face") is None
