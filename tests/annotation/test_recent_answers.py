"""What was answered a moment ago, and is not saved yet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from masks_by_hand import Clock, hair, recent, sorted_state, square

from ihp_backend.annotation.masks import AcceptedMask
from ihp_backend.annotation.recent_answers import RecentAnswers
from ihp_backend.annotation.state import AnnotationState
from ihp_backend.clicks import Click


def test_an_answer_is_remembered_once_its_keypoint_is_gone() -> None:
    answers = RecentAnswers()
    answers.remember("1 7", "d", [hair()], {"k1"}, {"Hair"})
    assert recent(answers, "k1") == []  # the suggestion is open
    (found,) = recent(answers, "k2")
    assert (found.id, found.label) == ("r1", "Hair")
    assert np.array_equal(found.mask, square(0, 0))
    assert recent(answers, task="1 8") == recent(answers, task="2 7") == []


def test_a_remembered_mask_still_says_whose_it_is() -> None:
    answers = RecentAnswers()
    answers.remember("1 7", "d", [replace(hair(), person=2)], {"k1"}, {"Hair"})
    assert [mask.person for mask in recent(answers, "k2")] == [2]


def test_what_a_click_left_of_a_prediction_stays_a_prediction() -> None:
    answers = RecentAnswers()
    answers.remember("1 7", "d", [replace(hair(), from_prediction=True)], {"k1"}, {"Face"})
    (left,) = recent(answers, "k2")
    state = AnnotationState.of([Click(50.0, 50.0, "Face")], [], [replace(left, pixels=square(0, 0))], [left])
    assert [mask.from_prediction for mask in state.accepted] == [True]


def test_once_a_newer_draft_is_there_only_the_draft_counts() -> None:
    """It was deleted, say, and the draft without it saved."""
    answers = RecentAnswers()
    answers.remember("1 7", "d", [hair()], {"k1"}, {"Hair"})
    assert recent(answers, draft="e") == []


def test_a_draft_that_was_saved_before_the_answer_was_accepted_does_not_take_it_away() -> None:
    """Found in a browser: it was saved while the suggestion was open, and the next part came before the next save."""
    answers = RecentAnswers()
    answers.remember("1 7", "d", [hair()], {"k1", "k2"}, {"Hair"})
    assert recent(answers, "k3", draft="e", drafted=("k1",))
    assert recent(answers, "k1", "k2", draft="e", drafted=("k1",)) == []  # the suggestion is open
    assert recent(answers, "k3", draft="f") == []


def test_what_may_still_be_open_is_told_apart() -> None:
    """Of the clicked label all open keypoints are known; what is old is open if its keypoint is in the draft."""
    clock = Clock()
    answers = RecentAnswers(clock)
    answers.remember("1 7", "d", [hair()], {"k1"}, {"Hair"})

    def is_open(clicked: str, drafted: tuple[str, ...] = ()) -> bool:
        (found,) = recent(answers, "k2", clicked=(clicked,), drafted=drafted)
        return found.is_suggested

    assert is_open("Face")
    assert not is_open("Hair"), "its keypoint is gone: accepted, or rejected"
    clock.now += 11
    assert not is_open("Face"), "the draft would have its keypoint"
    assert is_open("Face", drafted=("k1",))
    clock.now += 600
    assert is_open("Face", drafted=("k1",))


def test_of_one_region_the_newer_answer_counts_and_the_older_again_while_the_newer_is_open() -> None:
    answers = RecentAnswers()
    answers.remember("1 7", "d", [hair()], {"k1"}, {"Hair"})
    answers.remember("1 7", "d", [hair(square(0, 0, 10))], {"k2"}, {"Face"})  # the face has cut it
    (cut,) = recent(answers, "k3", clicked=("Hat",))
    assert np.array_equal(cut.mask, square(0, 0, 10))
    (whole,) = recent(answers, "k2", "k3", clicked=("Face",))
    assert np.array_equal(whole.mask, square(0, 0))


def test_an_answer_to_more_clicks_or_about_the_same_mask_takes_the_place_of_the_older_one() -> None:
    answers = RecentAnswers()
    answers.remember("1 7", "d", [hair(), AcceptedMask("r2", "Hat", square(30, 0))], {"k1"}, {"Hair"})
    answers.remember("1 7", "d", [hair(square(30, 30), "r3")], {"k1", "k2"}, {"Hair"})
    assert [m.id for m in recent(answers)] == ["r3"], "the suggestions of the first click are gone"
    answers.remember("1 7", "d", [hair(square(35, 35), "r4")], {"k3"}, {"Hair"})
    assert [m.id for m in recent(answers)] == ["r4"], "the first was rejected"


def test_it_forgets_after_a_minute_and_photos_of_another_size() -> None:
    clock = Clock()
    answers = RecentAnswers(clock)
    answers.remember("1 7", "d", [hair()], {"k1"}, {"Hair"})
    answers.remember("1 7", "d", [AcceptedMask("r2", "Hat", np.ones((5, 5), bool))], {"k2"}, {"Hair"})
    assert [m.label for m in recent(answers)] == ["Hair"]
    clock.now += 61
    assert recent(answers) == []


def test_it_is_bounded() -> None:
    answers = RecentAnswers()
    for number in range(1000):
        answers.remember(f"1 {number}", "d", [hair()], {"k"}, {"Hair"})
        answers.remember(
            "1 0", "d", [AcceptedMask(f"r{number}", f"label {number}", square(0, 0))], {f"k{number}"}, {"Hair"}
        )
    known = [number for number in range(1, 1000) if recent(answers, task=f"1 {number}")]
    assert known == list(range(1000 - 63, 1000)), "the newest, beside the one that was used last"
    kept = [mask.label for mask in recent(answers, task="1 0")]
    assert kept == [f"label {number}" for number in range(960, 1000)]


def test_a_remembered_mask_keeps_other_labels_off_it() -> None:
    found = sorted_state(Click(70, 50, "Face"), [], [hair()])
    assert [m.id for m in found.accepted] == ["r1"]
    assert found.mask_prompts("Face", None).keys() == {"Hair"}


def test_a_negative_click_far_from_what_is_remembered_corrects_nothing() -> None:
    far = Click(75.0, 55.0, "Hair", is_positive=False)
    assert AnnotationState((far,), (), (), [hair()]).corrected("Hair") is None
