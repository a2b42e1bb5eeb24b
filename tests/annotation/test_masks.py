"""Masks of an annotation, packed and plain, and the clicks that made them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from masks_by_hand import SHAPE, square
from numpy.typing import NDArray

from ihp_backend.annotation.masks import MOST_CLICKS, AcceptedMask, PackedMask, TimedClick, are_same, with_new
from ihp_backend.clicks import Click
from ihp_backend.geometry import digest


def clicks(count: int) -> list[Click]:
    return [Click(float(i), 0.0, "Hair") for i in range(count)]


def test_new_clicks_follow_the_known_ones_with_the_time_they_were_seen() -> None:
    one, two, three = clicks(3)
    known = (TimedClick(two, 5),)
    assert with_new(known, [one, two, three], 9) == (TimedClick(two, 5), TimedClick(one, 9), TimedClick(three, 9))
    assert with_new(known, [two], 9) == known


def test_of_many_clicks_the_newest_are_kept() -> None:
    many = clicks(MOST_CLICKS + 3)
    kept = with_new([TimedClick(click, 1) for click in many[:-1]], many, 2)
    assert [timed.click for timed in kept] == many[3:]
    assert [timed.at for timed in kept] == [1] * (MOST_CLICKS - 1) + [2]


def blob(top: int, left: int, height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, bool)
    mask[top : top + height, left : left + width] = np.random.default_rng(0).random((height, width)) > 0.4
    return mask


@given(st.integers(0, 40), st.integers(0, 60), st.integers(0, 20), st.integers(0, 20))
def test_a_packed_mask_is_the_same_mask_at_every_pixel(top: int, left: int, height: int, width: int) -> None:
    mask = blob(top, left, height, width)
    packed = PackedMask.of(mask)
    assert np.array_equal(packed.unpacked(), mask)
    held = np.array([[packed.holds(row, column) for column in range(SHAPE[1])] for row in range(SHAPE[0])])
    assert np.array_equal(held, mask)
    assert packed.shape == SHAPE
    assert packed.bits.nbytes <= height * width / 8 + 1


@pytest.mark.parametrize("is_packed", [False, True])
def test_an_accepted_mask_is_looked_at_and_taken_out_packed_or_not(is_packed: bool) -> None:
    pixels = blob(5, 7, 12, 9)
    accepted = AcceptedMask("r", "Hair", PackedMask.of(pixels) if is_packed else pixels)
    assert np.array_equal(accepted.mask, pixels)
    for row, column in ((5, 7), (8, 10), (16, 15), (0, 0), (59, 79)):
        assert accepted.holds(Click(column + 0.5, row + 0.5, "Face")) == pixels[row, column]
    other = square(0, 0)
    kept = other & ~pixels
    accepted.take_from(other)
    assert np.array_equal(other, kept)
    accepted.add_to(other)
    assert np.array_equal(other, kept | pixels)
    assert np.array_equal(accepted.packed.unpacked(), pixels)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 70), st.integers(0, 9)), min_size=1, max_size=4))
def test_packed_masks_are_put_together_and_told_apart_as_plain_ones_are(blobs: list[tuple[int, int, int]]) -> None:
    plain = [blob(top, left, side, side) for top, left, side in blobs]
    union = PackedMask.union([PackedMask.of(mask) for mask in plain])
    whole = np.logical_or.reduce(plain)
    assert np.array_equal(union.unpacked(), whole)
    assert union.is_empty == (not whole.any())
    assert union.digest == digest(whole)


def test_two_masks_are_the_same_if_they_share_half_of_the_smaller_one() -> None:
    assert are_same(square(0, 0), square(0, 10))
    assert not are_same(square(0, 0), square(0, 11))
    assert are_same(square(0, 0, 30), square(5, 5, 4)), "one within the other"
    assert not are_same(square(0, 0), np.zeros(SHAPE, bool))
