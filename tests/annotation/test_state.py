"""What lies before the annotator: the draft, and what was answered since."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ihp_backend.annotation.masks import AcceptedMask, TimedClick
from ihp_backend.annotation.recent_answers import RecentAnswers
from ihp_backend.annotation.state import AnnotationState
from ihp_backend.clicks import Click

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


def hair(mask: NDArray[np.bool_] | None = None, region: str = "r1") -> AcceptedMask:
    return AcceptedMask(region, "Hair", square(0, 0) if mask is None else mask)


def recent(
    answers: RecentAnswers,
    *still_open: str,
    task: str = "1 7",
    draft: str = "d",
    drafted: tuple[str, ...] = (),
    clicked: tuple[str, ...] = ("Hair",),
) -> list[AcceptedMask]:
    return answers.recent(task, draft, still_open, drafted, clicked, SHAPE)


def test_an_answer_is_remembered_once_its_keypoint_is_gone() -> None:
    answers = RecentAnswers()
    answers.remember("1 7", "d", [hair()], {"k1"}, {"Hair"})
    assert recent(answers, "k1") == []  # the suggestion is open
    (found,) = recent(answers, "k2")
    assert (found.id, found.label) == ("r1", "Hair")
    assert np.array_equal(found.mask, square(0, 0))
    assert recent(answers, task="1 8") == recent(answers, task="2 7") == []


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


def test_of_many_clicks_behind_accepted_masks_the_newest_are_shown() -> None:
    made = [TimedClick(Click(float(i), 1.0, "Hair"), at=i) for i in range(300)]
    masks = [replace(hair(region=f"r{i}"), clicks=tuple(made[i::10])) for i in range(10)]
    shown = AnnotationState.of([FACE], [], masks, ()).earlier_clicks("Face", None)
    assert shown == [timed.click for timed in made[100:]]


def test_an_answer_to_more_clicks_or_about_the_same_mask_takes_the_place_of_the_older_one() -> None:
    answers = RecentAnswers()
    answers.remember("1 7", "d", [hair(), AcceptedMask("r2", "Hat", square(30, 0))], {"k1"}, {"Hair"})
    answers.remember("1 7", "d", [hair(square(30, 30), "r3")], {"k1", "k2"}, {"Hair"})
    assert [m.id for m in recent(answers)] == ["r3"], "the suggestions of the first click are gone"
    answers.remember("1 7", "d", [hair(square(35, 35), "r4")], {"k3"}, {"Hair"})
    assert [m.id for m in recent(answers)] == ["r4"], "the first was rejected"


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
    (answer,) = again.answers("Hair", {"Hair": square(0, 0, 25)}, None)
    assert answer.id == "r1", "it takes the place of the one that it holds"
    face = AnnotationState.of([Click(40, 5, "Face")], (), (), recent(answers))
    assert [m.id for m in face.accepted] == ["r1", "r2"], "both are kept free"


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


def sorted_state(click: Click, drawn: list[AcceptedMask], remembered: list[AcceptedMask]) -> AnnotationState:
    return AnnotationState.of([click], (), drawn, remembered)


def test_a_remembered_mask_keeps_other_labels_off_it() -> None:
    found = sorted_state(Click(70, 50, "Face"), [], [hair()])
    assert [m.id for m in found.accepted] == ["r1"]
    assert found.mask_prompts("Face", None).keys() == {"Hair"}


def test_a_click_of_another_label_into_it_says_it_was_rejected() -> None:
    assert sorted_state(FACE, [], [hair()]).accepted == []
    negative = Click(15.0, 15.0, "Face", is_positive=False)
    assert len(sorted_state(negative, [], [hair()]).accepted) == 1


def test_an_open_suggestion_is_answered_again_with_another_labels_mask() -> None:
    suggested = replace(hair(), clicks=(HAIR_CLICK,), is_suggested=True)
    removed = AcceptedMask("r2", "Scarf", np.zeros(SHAPE, bool), is_suggested=True)
    there = sorted_state(Click(70, 50, "Face"), [], [suggested, removed])
    answers = there.answers("Face", {"Face": square(10, 10, 40)}, None)
    (face,) = answers
    assert not (face.mask & square(0, 0)).any()
    assert there.still_suggested(answers) == [suggested, removed]
    assert sorted_state(Click(70, 50, "Face"), [], [replace(suggested, is_suggested=False)]).still_suggested([]) == []


def test_an_open_suggestion_gives_way_to_a_click_into_it() -> None:
    """Nothing was accepted yet: it is cut, or replaced if the new mask takes all of it."""
    suggested = replace(hair(), clicks=(HAIR_CLICK,), is_suggested=True)
    there = sorted_state(FACE, [], [suggested])
    face, cut = there.answers("Face", {"Face": square(10, 10)}, None)
    assert (cut.id, cut.label) == ("r1", "Hair")
    assert np.array_equal(cut.mask, square(0, 0) & ~square(10, 10))
    assert there.still_suggested([face, cut]) == []
    answers = there.answers("Face", {"Face": square(0, 0)}, None)
    assert [(a.id, a.label) for a in answers] == [("r1", "Face")]
    assert there.still_suggested(answers) == []


def test_a_mask_of_the_draft_into_which_another_label_is_clicked_is_a_guess() -> None:
    coat = AcceptedMask("r2", "Coat", square(30, 30))
    found = {m.id: m.from_prediction for m in sorted_state(FACE, [hair(), coat], []).accepted}
    assert found == {"r1": True, "r2": False}


def test_a_rejected_mask_does_not_come_back() -> None:
    """Reject takes the keypoint away as accept does: a fresh click gets a fresh mask."""
    wrong = hair(square(0, 0))
    again = sorted_state(Click(50, 40, "Hair"), [], [wrong])
    assert again.corrected("Hair") is None
    assert again.mask_prompts("Hair", None) == {}
    (answer,) = again.answers("Hair", {"Hair": square(30, 40)}, None)
    assert answer.id != "r1"
    assert np.array_equal(answer.mask, square(30, 40))


def test_a_second_correction_goes_on_from_the_first_before_the_draft_has_it() -> None:
    drawn, corrected = hair(square(0, 0)), hair(square(0, 0, 30))
    again = sorted_state(Click(5, 5, "Hair", is_positive=False), [drawn], [corrected])
    mine = again.corrected("Hair")
    assert mine is not None
    assert np.array_equal(mine.mask, corrected.mask)
    other = sorted_state(Click(70, 50, "Face"), [drawn], [corrected])
    assert np.array_equal(other.mask_prompts("Face", None)["Hair"], corrected.mask)


def test_a_fresh_mask_that_holds_the_remembered_one_takes_its_place() -> None:
    again = sorted_state(Click(25, 10, "Hair"), [], [hair()])
    (answer,) = again.answers("Hair", {"Hair": square(0, 0, 30)}, None)
    assert answer.id == "r1"
    assert np.array_equal(answer.mask, square(0, 0, 30))


def test_a_negative_click_alone_corrects_what_is_remembered() -> None:
    again = sorted_state(Click(5, 5, "Hair", is_positive=False), [], [hair()])
    mine = again.corrected("Hair")
    assert mine is not None
    assert mine.id == "r1"
    (answer,) = again.answers("Hair", {"Hair": square(10, 0)}, mine)
    assert answer.id == "r1"
    assert not answer.mask[5, 5]


def state_of(*accepted: AcceptedMask, clicks: tuple[Click, ...] = (FACE,)) -> AnnotationState:
    return AnnotationState(clicks, (), accepted, ())


def test_a_click_in_or_near_a_mask_of_its_label_corrects_it_and_keeps_its_id() -> None:
    mine = AcceptedMask("r1", "Face", square(10, 10))
    there = state_of(mine, clicks=(Click(35, 15, "Face"),))
    assert there.corrected("Face") is mine
    (answer,) = there.answers("Face", {"Face": square(10, 10) | square(10, 30, 10)}, mine)
    assert answer.id == "r1"
    assert np.array_equal(answer.mask, square(10, 10) | square(10, 30, 10))
    assert there.mask_prompts("Face", mine).keys() == {"Face"}


def test_a_click_far_from_it_begins_a_new_mask_and_leaves_it_alone() -> None:
    mine = AcceptedMask("r1", "Face", square(0, 0, 10))
    there = state_of(mine, clicks=(Click(60, 40, "Face"),))
    assert there.corrected("Face") is None
    assert there.mask_prompts("Face", None) == {}
    (answer,) = there.answers("Face", {"Face": square(30, 50) | square(0, 0, 10)}, None)
    assert answer.id != "r1"
    assert np.array_equal(answer.mask, square(30, 50))


def test_the_newest_click_says_which_mask_is_meant() -> None:
    one, two = AcceptedMask("r1", "Face", square(0, 0, 10)), AcceptedMask("r2", "Face", square(0, 30, 10))
    assert state_of(one, two, clicks=(Click(5, 5, "Face"), Click(33, 5, "Face"))).corrected("Face") is two


def test_accepted_masks_of_others_are_shown_and_guesses_are_not() -> None:
    one, two, guess = (
        AcceptedMask("a", "Hair", square(0, 0)),
        AcceptedMask("b", "Hair", square(30, 0)),
        AcceptedMask("c", "Coat", square(30, 40), from_prediction=True),
    )
    prompts = state_of(one, two, guess).mask_prompts("Face", None)
    assert prompts.keys() == {"Hair"}
    assert np.array_equal(prompts["Hair"], square(0, 0) | square(30, 0))


def test_a_guess_gives_way_and_is_answered_again() -> None:
    guess = AcceptedMask("g", "Coat", square(10, 10), from_prediction=True)
    apart = AcceptedMask("h", "Hat", square(40, 50, 10), from_prediction=True)
    new, rest = state_of(guess, apart).answers("Face", {"Face": square(10, 10, 15)}, None)
    assert (new.label, rest.label, rest.id) == ("Face", "Coat", "g")
    assert not (new.mask & rest.mask).any()
    assert np.array_equal(new.mask | rest.mask, square(10, 10))


def test_a_new_mask_takes_the_place_of_the_largest_guess_under_it_and_empties_the_others() -> None:
    whole = AcceptedMask("g", "Coat", square(10, 10, 18), from_prediction=True)
    within = AcceptedMask("h", "Scarf", square(12, 12, 3), from_prediction=True)
    new, emptied = state_of(within, whole).answers("Face", {"Face": square(10, 10)}, None)
    assert (new.id, new.label, new.clicks) == ("g", "Face", ())
    assert np.array_equal(new.mask, square(10, 10))
    assert (emptied.id, emptied.label, emptied.mask.sum()) == ("h", "Scarf", 0)


def test_a_corrected_mask_keeps_its_own_place_and_empties_the_guess_under_it() -> None:
    made = (TimedClick(Click(12.0, 12.0, "Face"), 1),)
    mine = AcceptedMask("r1", "Face", square(10, 10, 8), clicks=made)
    within = AcceptedMask("h", "Scarf", square(20, 10, 8), from_prediction=True)
    new, emptied = state_of(mine, within).answers("Face", {"Face": square(10, 10)}, mine)
    assert (new.id, emptied.id, bool(emptied.mask.any())) == ("r1", "h", False)


def test_a_rim_of_a_guess_is_taken_with_it_and_more_is_not() -> None:
    guess = AcceptedMask("g", "Coat", square(10, 10), from_prediction=True)
    (new,) = state_of(guess).answers("Face", {"Face": square(11, 11, 19)}, None)
    assert new.id == "g"
    new, rest = state_of(guess).answers("Face", {"Face": square(13, 10)}, None)
    assert (rest.id, rest.mask.sum()) == ("g", 3 * 20)
    assert new.id != "g"


def test_a_click_into_an_unsaved_mask_takes_its_place_if_that_was_accepted() -> None:
    """With Ctrl held; nobody can tell it from a rejected one, whose id is free."""
    (answer,) = sorted_state(FACE, [], [hair()]).answers("Face", {"Face": square(0, 0)}, None)
    assert (answer.id, answer.label) == ("r1", "Face")
    outside = sorted_state(Click(30, 30, "Face"), [], [hair()])
    assert outside.answers("Face", {"Face": square(0, 0, 40)}, None)[0].id != "r1", "it is there, and kept free"


def test_where_masks_may_overlap_none_gives_way() -> None:
    coat = AcceptedMask("r1", "Coat", square(10, 10))
    guess = AcceptedMask("g", "Scarf", square(12, 12, 5), from_prediction=True)
    there = AnnotationState.of([FACE], (), [coat, guess], [])
    (answer,) = there.answers("Face", {"Face": square(10, 10)}, None, may_overlap=True)
    assert answer.id not in ("r1", "g")
    assert np.array_equal(answer.mask, square(10, 10))


def test_a_second_click_beside_an_unsaved_mask_takes_its_place_though_it_holds_a_part_of_it_only() -> None:
    answers = RecentAnswers()
    answers.remember("1 7", "d", [hair(square(0, 0, 30))], {"k1"}, {"Hair"})
    again = AnnotationState.of([Click(35, 5, "Hair")], (), (), recent(answers))
    (answer,) = again.answers("Hair", {"Hair": square(0, 12)}, None)
    assert answer.id == "r1"


def test_what_of_a_guess_is_on_somebody_else_stays_as_a_region_of_its_own() -> None:
    guess = AcceptedMask("g", "Face", square(10, 10) | square(10, 50), from_prediction=True)
    mine, theirs = state_of(guess).answers("Face", {"Face": square(10, 10)}, guess, on_others=square(10, 50))
    assert (mine.id, mine.label, theirs.label) == ("g", "Face", "Face")
    assert theirs.id != "g"
    assert np.array_equal(mine.mask, square(10, 10))
    assert np.array_equal(theirs.mask, square(10, 50))


def test_a_guess_of_the_own_label_is_replaced_as_a_whole() -> None:
    guess = AcceptedMask("g", "Face", square(10, 10), from_prediction=True)
    (answer,) = state_of(guess).answers("Face", {"Face": square(0, 0)}, guess)
    assert answer.id == "g"
    assert np.array_equal(answer.mask, square(0, 0))


def test_nothing_is_answered_where_nothing_is_left() -> None:
    away = (Click(70.0, 50.0, "Face"),)
    covered = state_of(AcceptedMask("a", "Face", square(0, 0)), clicks=away)
    assert covered.answers("Face", {"Face": square(0, 0)}, None) == []
    assert state_of().answers("Face", {"Face": np.zeros(SHAPE, bool)}, None) == []


OUTSIDE = Click(25.0, 25.0, "Face")
HAIR_CLICK = TimedClick(Click(5.0, 5.0, "Hair"), 1)


def test_masks_that_clicks_made_follow_the_others_clicks() -> None:
    made = replace(hair(), clicks=(HAIR_CLICK,))
    there = state_of(made, clicks=(OUTSIDE,))
    assert there.refinable("Face") == ["Hair"]
    masks = {"Face": square(10, 10), "Hair": square(0, 0) & ~square(10, 10)}
    face, follows = there.answers("Face", masks, None, refined=["Hair"])
    assert np.array_equal(face.mask, square(10, 10)), "what the network takes from the hair belongs to the face"
    assert (follows.id, follows.label, follows.clicks) == ("r1", "Hair", made.clicks)
    assert np.array_equal(follows.mask, square(0, 0) & ~square(10, 10))


def test_a_mask_does_not_follow_if_it_is_drawn_by_hand_another_persons_or_against_its_own_clicks() -> None:
    made = replace(hair(), clicks=(HAIR_CLICK,))
    for accepted, answered in (
        (made, square(0, 40)),  # that of somebody else
        (made, square(0, 0) & ~square(4, 4, 4)),  # without its click
    ):
        there = state_of(accepted, clicks=(OUTSIDE,))
        masks = {"Face": square(10, 10), "Hair": answered}
        (face,) = there.answers("Face", masks, None, refined=there.refinable("Face"))
        assert np.array_equal(face.mask, square(10, 10) & ~square(0, 0)), "it is kept, and kept free"
    assert state_of(hair()).refinable("Face") == [], "drawn by hand"
    two = (made, replace(made, id="r2", pixels=square(30, 0)))
    assert state_of(*two).refinable("Face") == [], "nobody can say which of two is meant"
    assert state_of(made).refinable("Hair") == []


def test_a_mask_that_stays_as_it_is_is_not_answered_again() -> None:
    made = replace(hair(), clicks=(HAIR_CLICK,))
    (face,) = state_of(made, clicks=(OUTSIDE,)).answers(
        "Face", {"Face": square(30, 40), "Hair": square(0, 0)}, None, refined=["Hair"]
    )
    assert face.label == "Face"


def test_a_label_that_is_there_is_not_suggested_beside_itself_but_on_somebody_else() -> None:
    accepted = hair()
    masks = {"Face": square(30, 30), "Hair": square(0, 0, 24)}
    assert [a.label for a in state_of(accepted, clicks=(OUTSIDE,)).answers("Face", masks, None)] == ["Face"], (
        "no sliver"
    )
    masks = {"Face": square(30, 30), "Hair": square(0, 40)}
    assert [a.label for a in state_of(accepted, clicks=(OUTSIDE,)).answers("Face", masks, None)] == ["Face", "Hair"]


def test_a_suggestion_of_another_label_keeps_off_a_guess() -> None:
    guess = AcceptedMask("g", "Coat", square(30, 30), from_prediction=True)
    face, scarf = state_of(guess).answers("Face", {"Face": square(0, 0), "Scarf": square(30, 20)}, None)
    assert (face.label, scarf.label) == ("Face", "Scarf")
    assert np.array_equal(scarf.mask, square(30, 20) & ~guess.mask)


def test_a_negative_click_far_from_what_is_remembered_corrects_nothing() -> None:
    far = Click(75.0, 55.0, "Hair", is_positive=False)
    assert AnnotationState((far,), (), (), [hair()]).corrected("Hair") is None


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
    answers = state_of(*accepted, clicks=(beyond,)).answers("Face", masks, None, may_overlap=may_overlap)
    for answer in answers:
        assert answer.id not in {mask.id for mask in accepted}
        if may_overlap and answer.label == "Face":
            assert np.array_equal(answer.mask, drawn["Face"])
        elif not may_overlap:
            assert not any((answer.mask & mask.mask).any() for mask in accepted)
            assert not (answer.mask & ~drawn[answer.label]).any()
    for one, two in combinations(answers, 2):
        assert not (one.mask & two.mask).any()
