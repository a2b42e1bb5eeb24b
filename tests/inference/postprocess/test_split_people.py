"""People who touch, drawn by hand: who has a head is a person."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ihp_backend.geometry import Box, View
from ihp_backend.inference.label_channels import Channels
from ihp_backend.inference.people import People
from ihp_backend.inference.postprocess.split_people import find_heads, split_by_heads, unseen_heads
from ihp_backend.inference.prediction import Parse
from ihp_backend.network.click_maps import Point
from ihp_backend.parts import LIP

HAIR, FACE, COAT = (LIP.names.index(name) for name in ("hair", "face", "coat"))
BODY = (30, 10, 90, 90, COAT)
"""A coat 80 stride-2 pixels wide: two people, shoulder on shoulder."""


def coarse_pass_of(*blocks: tuple[int, int, int, int, int]) -> Parse:
    """A coarse pass of (100, 100) over a photo of 400 x 400, with blocks (top, left, bottom, right, channel)."""
    ids = np.zeros((100, 100), np.int64)
    for top, left, bottom, right, channel in blocks:
        ids[top:bottom, left:right] = channel
    logits = np.where(np.arange(len(LIP))[:, None, None] == ids, 3, 0).astype(np.float32)
    view = View(Box(0, 0, 400, 400), 200, 200)
    return Parse(400, 400, view, logits, Channels(LIP, 0, {n: (n,) for n in LIP.names}), ())


def head(left: int, *, top: int = 12, channel: int = FACE) -> tuple[int, int, int, int, int]:
    return top, left, top + 18, left + 16, channel


def test_two_heads_on_one_piece_are_two_people() -> None:
    persons = People.of(coarse_pass_of(BODY, head(20), head(64)))
    assert len(persons.heads) == len(persons.boxes) == 2
    assert persons.at(4 * 20, 4 * 80) == persons.at(4 * 28, 4 * 20) != persons.at(4 * 80, 4 * 80)
    left, right = sorted(persons.boxes.values(), key=lambda box: box.left)
    assert left.left == 40
    assert right.right == 361
    assert abs(left.right - 200) <= 4, "the border is half-way"
    assert abs(right.left - 200) <= 4
    assert [click.x < 200 for click in persons.centres()] in ([True, False], [False, True])


def test_what_hangs_below_a_head_is_its_body_though_another_head_is_as_near() -> None:
    persons = People.of(coarse_pass_of(BODY, head(20), head(56, top=40)))  # a child's head before the other's coat
    assert persons.at(4 * 34, 4 * 85) == persons.at(4 * 28, 4 * 20)


def test_a_tress_and_a_face_on_a_shirt_are_no_people() -> None:
    alone = (30, 10, 90, 50, COAT)
    assert len(find_heads(coarse_pass_of(alone, head(20)))) == 1
    assert len(find_heads(coarse_pass_of(alone, head(20), (32, 42, 44, 49, HAIR)))) == 1, "a tress beside it"
    assert len(find_heads(coarse_pass_of(alone, head(20), (40, 36, 45, 41, FACE)))) == 1, "a printed face: too small"
    assert len(find_heads(coarse_pass_of(alone, head(20), head(22, top=50)))) == 1, "one above the other"
    assert len(find_heads(coarse_pass_of(BODY, head(20), head(64, channel=HAIR)))) == 2, "from behind it is as large"
    assert find_heads(coarse_pass_of(BODY)) == []
    assert len(find_heads(coarse_pass_of((0, 0, 100, 100, FACE)))) == 1, "nothing else is there"


def test_a_head_without_a_body_is_none() -> None:
    hood, body = (0, 28, 30, 41, COAT), (30, 0, 98, 45, COAT)
    assert len(find_heads(coarse_pass_of(hood, body, head(20), (0, 31, 8, 39, FACE)))) == 2
    persons = People.of(coarse_pass_of(hood, body, head(20), (0, 31, 8, 39, FACE)))
    assert len(persons.heads) == len(persons.boxes) == 1


def test_two_faces_under_hair_that_touches_are_two_heads() -> None:
    hair = (8, 18, 32, 82, HAIR)
    assert len(find_heads(coarse_pass_of(BODY, hair, (14, 26, 30, 40, FACE), (14, 58, 30, 72, FACE)))) == 2
    assert len(find_heads(coarse_pass_of(BODY, hair, (14, 40, 30, 49, FACE), (14, 51, 30, 60, FACE)))) == 1, (
        "a strand over it"
    )
    assert len(find_heads(coarse_pass_of(BODY, hair, (14, 26, 30, 40, FACE), (26, 60, 30, 66, FACE)))) == 1, (
        "a bit of neck"
    )
    assert (
        len(
            find_heads(
                coarse_pass_of(
                    (30, 10, 90, 50, COAT), (8, 20, 32, 40, HAIR), (14, 24, 22, 36, FACE), (24, 24, 30, 36, FACE)
                )
            )
        )
        == 1
    )


def test_a_face_that_is_clicked_where_no_head_was_seen_is_somebody_elses() -> None:
    coarse = coarse_pass_of(BODY, head(20))
    heads = find_heads(coarse)
    assert unseen_heads(coarse, heads, [Point(4 * 60, 4 * 55, FACE, True)]) == [(4 * 60, 4 * 55)]
    for x, y, channel, is_positive in ((60, 55, COAT, True), (60, 55, FACE, False), (28, 20, FACE, True)):
        assert unseen_heads(coarse, heads, [Point(4 * x, 4 * y, channel, is_positive)]) == []
    assert unseen_heads(coarse, heads, [Point(4 * 28, 4 * 32, FACE, True)]) == [], "a chin that the coarse pass missed"


def test_heads_on_pieces_of_their_own_divide_nothing() -> None:
    people = coarse_pass_of((30, 10, 90, 44, COAT), (30, 56, 90, 90, COAT), head(20), head(64))
    persons = People.of(people)
    assert len(persons.boxes) == 2
    assert set(np.unique(persons.instance_map[:, :44])) != set(np.unique(persons.instance_map[:, 56:]))
    assert len(np.unique(persons.instance_map[:, :44])) == 2


def test_a_body_whose_head_is_outside_the_view_is_somebody_elses() -> None:
    body = np.ones((20, 30), np.int64)
    people = split_by_heads(body, [(8.0, 2.0), (34.0, 2.0)])  # the border is at 21
    assert len(np.unique(people)) == 2
    assert people[10, 8] == people[10, 19]
    assert people[10, 23] == people[10, 29] != people[10, 8]


Masks = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).integers(0, 3, (12, 16)))


@given(Masks, st.lists(st.tuples(st.floats(-2, 18), st.floats(-2, 14)), max_size=4))
def test_splitting_divides_people_and_joins_none(persons: NDArray[np.int64], heads: list[tuple[float, float]]) -> None:
    people = split_by_heads(persons, heads)
    assert np.array_equal(people == 0, persons == 0)
    for person in np.unique(people):
        assert len(np.unique(persons[people == person])) == 1
    assert len(np.unique(people)) <= len(np.unique(persons)) + len(heads)
