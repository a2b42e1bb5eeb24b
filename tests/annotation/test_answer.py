"""What a click makes and changes: the regions of its answer."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from masks_by_hand import FACE, HAIR_CLICK, OUTSIDE, SHAPE, hair, recent, sorted_state, square, state_of
from numpy.typing import NDArray

from ihp_backend.annotation.answer import answer_masks
from ihp_backend.annotation.masks import AcceptedMask, TimedClick
from ihp_backend.annotation.recent_answers import RecentAnswers
from ihp_backend.annotation.state import AnnotationState
from ihp_backend.clicks import Click


def test_two_peoples_masks_of_one_label_are_both_remembered_and_the_nearer_one_is_corrected() -> None:
    answers = RecentAnswers()
    answers.remember("1 7", "d", [hair()], {"k1"}, {"Hair"})
    answers.remember("1 7", "d", [hair(square(30, 50), "r2")], {"k2"}, {"Hair"})
    for x, y, meant in ((5, 5, "r1"), (60, 40, "r2")):
        again = AnnotationState.of([Click(x, y, "Hair", is_positive=False)], (), (), recent(answers))
        mine = again.corrected("Hair")
        assert mine is not None
        assert mine.id == meant
    again = AnnotationState.of([Click(22, 5, "Hair")], (), (), recent(answers))
    (answer,) = answer_masks(again, "Hair", {"Hair": square(0, 0, 25)}, None)
    assert answer.id == "r1", "it takes the place of the one that it holds"
    face = AnnotationState.of([Click(40, 5, "Face")], (), (), recent(answers))
    assert [m.id for m in face.accepted] == ["r1", "r2"], "both are kept free"


def test_an_open_suggestion_is_answered_again_with_another_labels_mask() -> None:
    suggested = replace(hair(), clicks=(HAIR_CLICK,), is_suggested=True)
    removed = AcceptedMask("r2", "Scarf", np.zeros(SHAPE, bool), is_suggested=True)
    there = sorted_state(Click(70, 50, "Face"), [], [suggested, removed])
    answers = answer_masks(there, "Face", {"Face": square(10, 10, 40)}, None)
    (face,) = answers
    assert not (face.mask & square(0, 0)).any()
    assert there.still_suggested(answers) == [suggested, removed]
    assert sorted_state(Click(70, 50, "Face"), [], [replace(suggested, is_suggested=False)]).still_suggested([]) == []


def test_an_open_suggestion_gives_way_to_a_click_into_it() -> None:
    """Nothing was accepted yet: it is cut, or replaced if the new mask takes all of it."""
    suggested = replace(hair(), clicks=(HAIR_CLICK,), is_suggested=True)
    there = sorted_state(FACE, [], [suggested])
    face, cut = answer_masks(there, "Face", {"Face": square(10, 10)}, None)
    assert (cut.id, cut.label) == ("r1", "Hair")
    assert np.array_equal(cut.mask, square(0, 0) & ~square(10, 10))
    assert there.still_suggested([face, cut]) == []
    answers = answer_masks(there, "Face", {"Face": square(0, 0)}, None)
    assert [(a.id, a.label) for a in answers] == [("r1", "Face")]
    assert there.still_suggested(answers) == []


def test_a_rejected_mask_does_not_come_back() -> None:
    """Reject takes the keypoint away as accept does: a fresh click gets a fresh mask."""
    wrong = hair(square(0, 0))
    again = sorted_state(Click(50, 40, "Hair"), [], [wrong])
    assert again.corrected("Hair") is None
    assert again.mask_prompts("Hair", None) == {}
    (answer,) = answer_masks(again, "Hair", {"Hair": square(30, 40)}, None)
    assert answer.id != "r1"
    assert np.array_equal(answer.mask, square(30, 40))


def test_a_fresh_mask_that_holds_the_remembered_one_takes_its_place() -> None:
    again = sorted_state(Click(25, 10, "Hair"), [], [hair()])
    (answer,) = answer_masks(again, "Hair", {"Hair": square(0, 0, 30)}, None)
    assert answer.id == "r1"
    assert np.array_equal(answer.mask, square(0, 0, 30))


def test_a_negative_click_alone_corrects_what_is_remembered() -> None:
    again = sorted_state(Click(5, 5, "Hair", is_positive=False), [], [hair()])
    mine = again.corrected("Hair")
    assert mine is not None
    assert mine.id == "r1"
    (answer,) = answer_masks(again, "Hair", {"Hair": square(10, 0)}, mine)
    assert answer.id == "r1"
    assert not answer.mask[5, 5]


def test_a_click_in_or_near_a_mask_of_its_label_corrects_it_and_keeps_its_id() -> None:
    mine = AcceptedMask("r1", "Face", square(10, 10))
    there = state_of(mine, clicks=(Click(35, 15, "Face"),))
    assert there.corrected("Face") is mine
    (answer,) = answer_masks(there, "Face", {"Face": square(10, 10) | square(10, 30, 10)}, mine)
    assert answer.id == "r1"
    assert np.array_equal(answer.mask, square(10, 10) | square(10, 30, 10))
    assert there.mask_prompts("Face", mine).keys() == {"Face"}


def test_a_click_far_from_it_begins_a_new_mask_and_leaves_it_alone() -> None:
    mine = AcceptedMask("r1", "Face", square(0, 0, 10))
    there = state_of(mine, clicks=(Click(60, 40, "Face"),))
    assert there.corrected("Face") is None
    assert there.mask_prompts("Face", None) == {}
    (answer,) = answer_masks(there, "Face", {"Face": square(30, 50) | square(0, 0, 10)}, None)
    assert answer.id != "r1"
    assert np.array_equal(answer.mask, square(30, 50))


def test_a_predicted_mask_gives_way_and_is_answered_again() -> None:
    predicted = AcceptedMask("g", "Coat", square(10, 10), from_prediction=True)
    apart = AcceptedMask("h", "Hat", square(40, 50, 10), from_prediction=True)
    new, rest = answer_masks(state_of(predicted, apart), "Face", {"Face": square(10, 10, 15)}, None)
    assert (new.label, rest.label, rest.id) == ("Face", "Coat", "g")
    assert not (new.mask & rest.mask).any()
    assert np.array_equal(new.mask | rest.mask, square(10, 10))
    assert rest.from_prediction
    below = Click(25.0, 28.0, "Hair")
    (hair_mask, less) = answer_masks(state_of(new, rest, clicks=(below,)), "Hair", {"Hair": square(26, 10)}, None)
    assert np.array_equal(hair_mask.mask, square(26, 10)), "what is left gives way to the next click, too"
    assert np.array_equal(less.mask, rest.mask & ~hair_mask.mask)


def test_a_new_mask_takes_the_place_of_the_largest_predicted_mask_under_it_and_empties_the_others() -> None:
    whole = AcceptedMask("g", "Coat", square(10, 10, 18), from_prediction=True)
    within = AcceptedMask("h", "Scarf", square(12, 12, 3), from_prediction=True)
    new, emptied = answer_masks(state_of(within, whole), "Face", {"Face": square(10, 10)}, None)
    assert (new.id, new.label, new.clicks) == ("g", "Face", ())
    assert np.array_equal(new.mask, square(10, 10))
    assert (emptied.id, emptied.label, emptied.mask.sum()) == ("h", "Scarf", 0)


def test_a_corrected_mask_keeps_its_own_place_and_empties_the_predicted_mask_under_it() -> None:
    made = (TimedClick(Click(12.0, 12.0, "Face"), 1),)
    mine = AcceptedMask("r1", "Face", square(10, 10, 8), clicks=made)
    within = AcceptedMask("h", "Scarf", square(20, 10, 8), from_prediction=True)
    new, emptied = answer_masks(state_of(mine, within), "Face", {"Face": square(10, 10)}, mine)
    assert (new.id, emptied.id, bool(emptied.mask.any())) == ("r1", "h", False)


def test_a_rim_of_a_predicted_mask_is_taken_with_it_and_more_is_not() -> None:
    predicted = AcceptedMask("g", "Coat", square(10, 10), from_prediction=True)
    (new,) = answer_masks(state_of(predicted), "Face", {"Face": square(11, 11, 19)}, None)
    assert new.id == "g"
    new, rest = answer_masks(state_of(predicted), "Face", {"Face": square(13, 10)}, None)
    assert (rest.id, rest.mask.sum()) == ("g", 3 * 20)
    assert new.id != "g"


def test_a_click_into_an_unsaved_mask_takes_its_place_if_that_was_accepted() -> None:
    """With Ctrl held; nobody can tell it from a rejected one, whose id is free."""
    (answer,) = answer_masks(sorted_state(FACE, [], [hair()]), "Face", {"Face": square(0, 0)}, None)
    assert (answer.id, answer.label) == ("r1", "Face")
    outside = sorted_state(Click(30, 30, "Face"), [], [hair()])
    assert answer_masks(outside, "Face", {"Face": square(0, 0, 40)}, None)[0].id != "r1", "it is there, and kept free"


def test_where_masks_may_overlap_none_gives_way() -> None:
    coat = AcceptedMask("r1", "Coat", square(10, 10))
    predicted = AcceptedMask("g", "Scarf", square(12, 12, 5), from_prediction=True)
    there = AnnotationState.of([FACE], (), [coat, predicted], [])
    (answer,) = answer_masks(there, "Face", {"Face": square(10, 10)}, None, may_overlap=True)
    assert answer.id not in ("r1", "g")
    assert np.array_equal(answer.mask, square(10, 10))


def test_a_second_click_beside_an_unsaved_mask_takes_its_place_though_it_holds_a_part_of_it_only() -> None:
    answers = RecentAnswers()
    answers.remember("1 7", "d", [hair(square(0, 0, 30))], {"k1"}, {"Hair"})
    again = AnnotationState.of([Click(35, 5, "Hair")], (), (), recent(answers))
    (answer,) = answer_masks(again, "Hair", {"Hair": square(0, 12)}, None)
    assert answer.id == "r1"


def test_what_of_a_predicted_mask_is_on_somebody_else_stays_as_a_region_of_its_own() -> None:
    predicted = AcceptedMask("g", "Face", square(10, 10) | square(10, 50), from_prediction=True)
    mine, theirs = answer_masks(
        state_of(predicted), "Face", {"Face": square(10, 10)}, predicted, on_others=square(10, 50)
    )
    assert (mine.id, mine.label, theirs.label) == ("g", "Face", "Face")
    assert theirs.id != "g"
    assert np.array_equal(mine.mask, square(10, 10))
    assert np.array_equal(theirs.mask, square(10, 50))


def test_a_predicted_mask_of_the_own_label_is_replaced_as_a_whole() -> None:
    predicted = AcceptedMask("g", "Face", square(10, 10), from_prediction=True)
    (answer,) = answer_masks(state_of(predicted), "Face", {"Face": square(0, 0)}, predicted)
    assert answer.id == "g"
    assert np.array_equal(answer.mask, square(0, 0))


def test_nothing_is_answered_where_nothing_is_left() -> None:
    away = (Click(70.0, 50.0, "Face"),)
    covered = state_of(AcceptedMask("a", "Face", square(0, 0)), clicks=away)
    assert answer_masks(covered, "Face", {"Face": square(0, 0)}, None) == []
    assert answer_masks(state_of(), "Face", {"Face": np.zeros(SHAPE, bool)}, None) == []


def test_masks_that_clicks_made_follow_the_others_clicks() -> None:
    made = replace(hair(), clicks=(HAIR_CLICK,))
    there = state_of(made, clicks=(OUTSIDE,))
    assert there.refinable("Face") == ["Hair"]
    masks = {"Face": square(10, 10), "Hair": square(0, 0) & ~square(10, 10)}
    face, follows = answer_masks(there, "Face", masks, None, refined=["Hair"])
    assert np.array_equal(face.mask, square(10, 10)), "what the network takes from the hair belongs to the face"
    assert (follows.id, follows.label, follows.clicks) == ("r1", "Hair", made.clicks)
    assert np.array_equal(follows.mask, square(0, 0) & ~square(10, 10))
    _, follows = answer_masks(there, "Face", {"Face": square(40, 40), "Hair": square(0, 0, 28)}, None, refined=["Hair"])
    assert np.array_equal(follows.mask, square(0, 0, 28)), "IoU 0.51 with what it was"


def test_a_mask_does_not_follow_if_it_is_drawn_by_hand_another_persons_or_against_its_own_clicks() -> None:
    made = replace(hair(), clicks=(HAIR_CLICK,))
    for accepted, answered in (
        (made, square(0, 40)),  # that of somebody else
        (made, square(0, 0, 29)),  # IoU 0.48 with what it was
        (made, square(0, 0) & ~square(4, 4, 4)),  # without its click
    ):
        there = state_of(accepted, clicks=(OUTSIDE,))
        masks = {"Face": square(10, 10), "Hair": answered}
        (face,) = answer_masks(there, "Face", masks, None, refined=there.refinable("Face"))
        assert np.array_equal(face.mask, square(10, 10) & ~square(0, 0)), "it is kept, and kept free"
    assert state_of(hair()).refinable("Face") == [], "drawn by hand"
    two = (made, replace(made, id="r2", pixels=square(30, 0)))
    assert state_of(*two).refinable("Face") == [], "nobody can say which of two is meant"
    assert state_of(made).refinable("Hair") == []


def test_a_mask_that_stays_as_it_is_is_not_answered_again() -> None:
    made = replace(hair(), clicks=(HAIR_CLICK,))
    (face,) = answer_masks(
        state_of(made, clicks=(OUTSIDE,)),
        "Face",
        {"Face": square(30, 40), "Hair": square(0, 0)},
        None,
        refined=["Hair"],
    )
    assert face.label == "Face"


def test_a_label_that_is_there_is_not_suggested_beside_itself_but_on_somebody_else() -> None:
    accepted = hair()
    masks = {"Face": square(30, 30), "Hair": square(0, 0, 24)}
    assert [a.label for a in answer_masks(state_of(accepted, clicks=(OUTSIDE,)), "Face", masks, None)] == ["Face"], (
        "no sliver"
    )
    masks = {"Face": square(30, 30), "Hair": square(0, 40)}
    assert [a.label for a in answer_masks(state_of(accepted, clicks=(OUTSIDE,)), "Face", masks, None)] == [
        "Face",
        "Hair",
    ]


def test_a_suggestion_of_another_label_keeps_off_a_predicted_mask() -> None:
    predicted = AcceptedMask("g", "Coat", square(30, 30), from_prediction=True)
    face, scarf = answer_masks(state_of(predicted), "Face", {"Face": square(0, 0), "Scarf": square(30, 20)}, None)
    assert (face.label, scarf.label) == ("Face", "Scarf")
    assert np.array_equal(scarf.mask, square(30, 20) & ~predicted.mask)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10_000), may_overlap=st.booleans())
def test_whatever_is_answered_keeps_off_what_was_accepted(seed: int, may_overlap: bool) -> None:
    rng = np.random.default_rng(seed)

    def blob() -> NDArray[np.bool_]:
        return square(int(rng.integers(40)), int(rng.integers(40)), int(rng.integers(5, 30)))

    accepted = [
        AcceptedMask(f"r{i}", label, blob(), clicks=(HAIR_CLICK,) if rng.random() < 0.5 else ())
        for i, label in enumerate(("Hair", "Scarf", "Hair"))
    ]
    beyond = Click(79.5, 5.0, "Face")
    masks = {"Face": blob(), "Coat": blob()}
    drawn = {label: mask.copy() for label, mask in masks.items()}
    answers = answer_masks(state_of(*accepted, clicks=(beyond,)), "Face", masks, None, may_overlap=may_overlap)
    for answer in answers:
        assert answer.id not in {mask.id for mask in accepted}
        if may_overlap and answer.label == "Face":
            assert np.array_equal(answer.mask, drawn["Face"])
        elif not may_overlap:
            assert not any((answer.mask & mask.mask).any() for mask in accepted)
            assert not (answer.mask & ~drawn[answer.label]).any()
    for one, two in combinations(answers, 2):
        assert not (one.mask & two.mask).any()


def test_a_predicted_mask_of_which_more_than_a_fifth_is_left_is_not_taken_though_the_rest_is_thin() -> None:
    predicted = replace(hair(square(10, 10, 4)), from_prediction=True)
    three_of_four_rows = np.zeros(SHAPE, bool)
    three_of_four_rows[10:13, 10:20] = True
    new, rest = answer_masks(state_of(predicted), "Face", {"Face": three_of_four_rows}, None)
    assert (new.label, rest.id, rest.label) == ("Face", predicted.id, "Hair")
    assert np.array_equal(np.argwhere(rest.mask), [[13, column] for column in range(10, 14)])
    assert new.id != predicted.id
