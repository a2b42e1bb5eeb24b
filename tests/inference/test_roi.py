"""Who is there, who is meant, and what the network sees: on coarse passes that are drawn by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import Box, View
from ihp_backend.inference.label_channels import Channels
from ihp_backend.inference.people import People, close_gaps
from ihp_backend.inference.prediction import Parse
from ihp_backend.inference.roi import Target
from ihp_backend.parts import LIP

SCALE = 4
"""Pixels of the photo to a stride-2 pixel of the coarse pass."""


def coarse_pass_of(*people: tuple[int, int, int, int], height: int = 100, width: int = 100, channel: int = 5) -> Parse:
    """A coarse pass (h, w) of a photo SCALE times as large, in which each (top, left, bottom, right) is somebody."""
    logits = np.zeros((len(LIP.names), height, width), np.float32)
    for top, left, bottom, right in people:
        logits[channel, top:bottom, left:right] = 3.0
    logits[0][~(logits[channel] > 0)] = 3.0
    view = View(Box(0, 0, width * SCALE, height * SCALE), 2 * height, 2 * width)
    return Parse(height * SCALE, width * SCALE, view, logits, Channels(LIP, 0, {n: (n,) for n in LIP.names}), ())


LEFT, RIGHT = (20, 10, 90, 35), (30, 60, 90, 85)
TWO = coarse_pass_of(LEFT, RIGHT)
ON_LEFT, ON_RIGHT = Click(80, 200, "face"), Click(290, 240, "face")


def pixels(person: tuple[int, int, int, int]) -> Box:
    top, left, bottom, right = (SCALE * v for v in person)
    return Box(left, top, right, bottom)


def target(coarse: Parse, *clicks: Click, accepted: dict[str, NDArray[np.bool_]] | None = None) -> Target:
    return Target.of(People.of(coarse), clicks, accepted or {}, {"background"})


def close(box: Box, other: Box, by: int) -> bool:
    return all(
        abs(a - b) <= by
        for a, b in zip(
            (box.left, box.top, box.right, box.bottom), (other.left, other.top, other.right, other.bottom), strict=True
        )
    )


def test_two_people_have_boxes_in_pixels_of_the_photo() -> None:
    boxes = list(People.of(TWO).boxes.values())
    assert len(boxes) == 2
    assert close(boxes[0], pixels(LEFT), 1), "the larger one comes first"
    assert close(boxes[1], pixels(RIGHT), 1)


def test_small_pieces_are_nobody_and_nobody_has_no_box() -> None:
    assert len(People.of(coarse_pass_of(LEFT, (40, 70, 45, 75))).boxes) == 1, "1.4% of the large one"
    assert len(People.of(coarse_pass_of(LEFT, (40, 70, 46, 77))).boxes) == 2, "2.4%"
    assert People.of(coarse_pass_of()).boxes == {}
    assert People.of(coarse_pass_of()).at(10, 10) is None
    assert People.of(coarse_pass_of()).centres() == []


def test_a_shoe_apart_belongs_to_the_person_above_it_and_another_person_does_not() -> None:
    persons = People.of(coarse_pass_of((10, 40, 80, 60), (83, 42, 88, 52)))
    (box,) = persons.boxes.values()
    assert close(box, Box(160, 40, 240, 352), 1)
    assert len(People.of(coarse_pass_of((10, 10, 90, 30), (60, 70, 80, 76))).boxes) == 2


def test_a_place_is_of_the_person_on_or_near_it() -> None:
    persons = People.of(TWO)
    left, right = persons.boxes
    assert (persons.at(80, 200), persons.at(290, 240)) == (left, right)
    assert persons.at(150, 200) == left, "a hand's breadth beside it"
    assert persons.at(200, 10) is None, "far from both"


def test_the_middle_of_each_person_is_on_it() -> None:
    persons = People.of(TWO)
    assert [persons.at(c.x, c.y) for c in persons.centres()] == list(persons.boxes)
    for centre, (top, left, bottom, right) in zip(persons.centres(), (LEFT, RIGHT), strict=True):
        width = SCALE * (right - left)  # a person is a box: innermost is its middle line, half a width from its ends
        assert abs(centre.x - (SCALE * left + width / 2)) <= SCALE
        assert SCALE * top + width / 2 - SCALE <= centre.y <= SCALE * bottom - width / 2 + SCALE


def test_a_click_means_the_one_it_is_on_and_without_clicks_all_are_meant() -> None:
    assert len(target(TWO).people) == 2
    (meant,) = target(TWO, ON_RIGHT).people
    assert close(meant, pixels(RIGHT), 1)
    assert len(target(TWO, ON_LEFT, ON_RIGHT).people) == 2


def test_negative_clicks_and_those_on_the_background_mean_nobody() -> None:
    away = Click(290, 240, "face", is_positive=False)
    behind = Click(290, 240, "background")
    for other in (away, behind):
        (meant,) = target(TWO, ON_LEFT, other).people
        assert close(meant, pixels(LEFT), 1)


def test_masks_on_others_do_not_widen_the_view_and_those_on_the_same_person_do() -> None:
    theirs, ours = np.zeros((400, 400), bool), np.zeros((400, 400), bool)
    theirs[200:260, 260:300] = True
    ours[10:60, 60:100] = True  # a hat, above what the coarse pass saw
    alone = target(TWO, ON_LEFT).region_of_interest()
    assert target(TWO, ON_LEFT, accepted={"hair": theirs}).region_of_interest() == alone
    wider = target(TWO, ON_LEFT, accepted={"hat": ours}).region_of_interest()
    assert wider.top <= 10
    assert wider.right < 240, "the other person stays outside"
    assert len(target(TWO, accepted={"hair": theirs}).people) == 1, "without clicks, masks say who is meant"


def test_a_click_where_nobody_is_seen_is_missing_and_its_surroundings_are_looked_at() -> None:
    found = target(TWO, Click(200, 10, "face"))
    assert found.is_missing
    assert found.people == []
    large = coarse_pass_of(width=1000, height=1000)
    box = target(large, Click(3000, 1000, "face")).region_of_interest()
    assert box.left <= 3000 < box.right
    assert box.top <= 1000 < box.bottom
    assert box.width < 2000, "not the whole photo"
    assert target(coarse_pass_of()).region_of_interest() == Box(0, 0, 400, 400)


def test_small_people_are_looked_at_again_and_large_ones_are_not() -> None:
    # A view of 100 x 100 pixels at a photo of 4000 x 4000.
    small = coarse_pass_of((40, 20, 48, 23), height=50, width=50)
    view = View(Box(0, 0, 4000, 4000), 100, 100)
    coarse = Parse(4000, 4000, view, small.logits, small.channels, ())
    closer = target(coarse).zoom_in()
    assert closer is not None
    assert closer.union(Box(1600, 3200, 1840, 3840)) == closer, "all of the person"
    assert max(closer.width, closer.height) < 2000
    filling = coarse_pass_of((5, 10, 48, 40), height=50, width=50)
    assert target(Parse(4000, 4000, view, filling.logits, filling.channels, ())).zoom_in() is None
    assert target(TWO).zoom_in() is None
    exact = Parse(200, 200, View(Box(0, 0, 200, 200), 200, 200), TWO.logits, TWO.channels, ())
    assert target(exact).zoom_in() is None, "every pixel has been seen"


def test_who_fills_a_part_of_the_photo_may_go_on_outside() -> None:
    assert target(coarse_pass_of((0, 0, 100, 40))).fills(Box(0, 0, 400, 400))
    assert not target(TWO).fills(Box(0, 0, 400, 400))


people = st.lists(
    st.tuples(st.integers(0, 80), st.integers(0, 80), st.integers(4, 20), st.integers(4, 20)), max_size=4
).map(lambda found: [(t, left, t + h, left + w) for t, left, h, w in found])
spots = st.tuples(st.floats(0, 400), st.floats(0, 400))


@given(people, st.lists(spots, max_size=4))
def test_the_box_holds_who_is_meant_and_every_click_and_lies_in_the_photo(
    found: list[tuple[int, int, int, int]], places: list[tuple[float, float]]
) -> None:
    clicks = [Click(x, y, "face") for x, y in places]
    meant = target(coarse_pass_of(*found), *clicks)
    box = meant.region_of_interest()
    assert 0 <= box.left < box.right <= 400
    assert 0 <= box.top < box.bottom <= 400
    for inside in (*meant.people, *meant.places):
        assert box.union(inside) == box


@given(people, spots, st.floats(0, 1), st.floats(0, 1))
def test_the_box_is_the_same_wherever_a_person_is_clicked(
    found: list[tuple[int, int, int, int]], place: tuple[float, float], u: float, v: float
) -> None:
    coarse = coarse_pass_of(LEFT, *found)
    persons = People.of(coarse)
    (top, left, bottom, right) = LEFT
    inside = Click(SCALE * (left + u * (right - left - 1)), SCALE * (top + v * (bottom - top - 1)), "face")
    first = next(c for c in persons.centres() if persons.at(c.x, c.y) == persons.at(inside.x, inside.y))
    assert target(coarse, inside).region_of_interest() == target(coarse, first).region_of_interest()


@given(people)
def test_every_person_is_found_in_its_middle(found: list[tuple[int, int, int, int]]) -> None:
    persons = People.of(coarse_pass_of(*found))
    assert [persons.at(c.x, c.y) for c in persons.centres()] == list(persons.boxes)


def test_earlier_clicks_on_somebody_else_are_left_out_and_those_on_nobody_stay() -> None:
    people = People.of(TWO)
    nobody, no_left = Click(200, 10, "hat"), Click(80, 210, "hair", False)
    assert people.at(nobody.x, nobody.y) is None
    earlier = [ON_LEFT, ON_RIGHT, nobody]
    assert people.on_same_person(earlier, [Click(82, 220, "hair")]) == [ON_LEFT, nobody]
    assert people.on_same_person(earlier, [ON_RIGHT, no_left]) == [ON_RIGHT, nobody], "a negative click means nobody"
    assert people.on_same_person(earlier, [no_left]) == [ON_LEFT, nobody], "unless there are no others"
    assert people.on_same_person(earlier, [nobody]) == earlier
    assert people.on_same_person([], [ON_LEFT]) == []


def test_what_of_a_mask_is_on_others_to_the_pixel() -> None:
    people = People.of(TWO)
    mask = np.zeros((400, 400), bool)
    mask[200:240, 60:320] = True
    others = people.on_others(mask, [ON_LEFT])
    rows, columns = np.nonzero(others)
    assert (rows.min(), rows.max()) == (200, 239)
    assert abs(columns.min() - 240) <= 4
    assert columns.max() == 319
    assert not people.on_others(mask, [Click(290, 240, "face", False)]).any(), "nobody is meant"
    assert not people.on_others(mask, [ON_LEFT, Click(200, 10, "hat")]).any(), "one click is on nobody"
    assert not people.on_others(mask, [ON_LEFT, ON_RIGHT]).any()
    border = np.zeros_like(mask)
    border[100:300, 60:242] = True
    assert not people.on_others(border, [ON_LEFT]).any(), "a border that is not exact"


def test_whoever_is_beyond_the_coarse_pass_is_somebody_else() -> None:
    part = coarse_pass_of(LEFT, RIGHT)
    closer = Parse(800, 800, View(Box(0, 0, 400, 400), 200, 200), part.logits, part.channels, ())
    mask = np.zeros((800, 800), bool)
    mask[200:240, 60:120] = mask[200:240, 600:700] = True
    expected = mask.copy()
    expected[:400, :400] = False
    assert np.array_equal(People.of(closer).on_others(mask, [ON_LEFT]), expected)


def test_gaps_up_to_a_fiftieth_are_closed_and_nothing_is_lost() -> None:
    mask = np.zeros((200, 200), bool)
    mask[20:90, 40:60] = mask[93:180, 40:60] = True
    closed = close_gaps(mask)
    assert closed.dtype == np.uint8
    assert closed[90:93, 42:58].all(), "3 of 200 stride-2 pixels"
    assert closed[mask].all()
    assert closed.sum() <= 161 * 21
    mask[93:95] = False
    assert not close_gaps(mask)[92:94].any(), "5 are too many"


def test_a_part_that_is_nearly_the_whole_is_not_passed_over_again() -> None:
    def zoom_in(width: int) -> Box | None:
        drawn = coarse_pass_of((5, 10, 20, 10 + width), height=25, width=100)
        view = View(Box(0, 0, 4000, 1000), 50, 200)
        return target(Parse(1000, 4000, view, drawn.logits, drawn.channels, ())).zoom_in()

    assert zoom_in(38) is None, "three quarters of the photo: as wide as twice the person, as high as the photo"
    closer = zoom_in(30)
    assert closer is not None
    assert 2000 < closer.width < 2800
