"""An accepted mask changes where it is clicked, and nowhere else."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ihp_backend.annotation.local_correction import correct_locally
from ihp_backend.clicks import Click


def square(*places: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    mask = np.zeros((100, 120), bool)
    for top, left, bottom, right in places:
        mask[top:bottom, left:right] = True
    return mask


BEFORE = square((20, 20, 60, 60))
AFTER = square((20, 20, 60, 90), (80, 10, 95, 30))  # grown to the right, and an island


def test_the_change_that_is_clicked_is_taken_over_whole() -> None:
    grown = correct_locally(BEFORE, AFTER, [Click(80, 40, "coat")])
    assert np.array_equal(grown, square((20, 20, 60, 90)))
    island = correct_locally(BEFORE, AFTER, [Click(20, 88, "coat")])
    assert np.array_equal(island, BEFORE | square((80, 10, 95, 30)))
    both = correct_locally(BEFORE, AFTER, [Click(80, 40, "coat"), Click(20, 88, "coat")])
    assert np.array_equal(both, AFTER)


def test_a_negative_click_takes_away_what_it_points_at() -> None:
    shrunk = correct_locally(AFTER, BEFORE, [Click(80, 40, "coat", is_positive=False)])
    assert np.array_equal(shrunk, BEFORE | square((80, 10, 95, 30)))


def test_the_edge_may_wobble_without_dragging_everything_along() -> None:
    wobbled = square((19, 19, 61, 61), (40, 60, 60, 90))  # one pixel wider all round, and a real change
    taken = correct_locally(BEFORE, wobbled, [Click(80, 50, "coat")])
    assert taken[50, 80]
    assert not taken[19, 19:50].any()
    assert not taken[30:60, 19].any()


def test_a_click_that_agrees_changes_nothing() -> None:
    assert np.array_equal(correct_locally(BEFORE, AFTER, [Click(30, 30, "coat")]), BEFORE)
    assert not correct_locally(square(), square(), [Click(30, 30, "coat")]).any()


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_never_anything_that_neither_mask_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = (rng.random((30, 40)) > 0.5 for _ in range(2))
    clicks = [Click(float(rng.uniform(0, 40)), float(rng.uniform(0, 30)), "x") for _ in range(3)]
    out = correct_locally(before, after, clicks)
    assert ((out == before) | (out == after)).all()
    for click in clicks:
        assert out[click.pixel(30, 40)] == after[click.pixel(30, 40)]
