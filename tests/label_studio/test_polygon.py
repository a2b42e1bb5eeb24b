"""Polygons there and back: exact without a tolerance, and within it with one; filled as other libraries fill them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from ihp_backend.label_studio.polygon import PolygonError, decode, encode

masks = arrays.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def read(polygons: list[list[list[float]]], height: int, width: int) -> NDArray[np.bool_]:
    found = np.zeros((height, width), bool)
    for points in polygons:
        found |= decode(points, height, width)
    return found


def ring(side: int = 120) -> NDArray[np.bool_]:
    mask = np.zeros((side, side + 30), np.uint8)
    cv2.circle(mask, (side // 2, side // 2), side // 3, 1, -1)
    cv2.circle(mask, (side // 2, side // 2), side // 8, 0, -1)
    return mask.astype(bool)


@settings(deadline=None)
@given(masks)
def test_without_a_tolerance_every_mask_comes_back(mask: NDArray[np.bool_]) -> None:
    polygons = encode(mask, 0)
    assert all(len(points) >= 3 for points in polygons)
    assert np.array_equal(read(polygons, *mask.shape), mask)


@settings(deadline=None)
@given(masks, st.floats(0, 20))
def test_with_a_tolerance_a_mask_stays_like_itself(mask: NDArray[np.bool_], tolerance: float) -> None:
    back = read(encode(mask, tolerance), *mask.shape)
    assert not mask.any() or iou(back, mask) >= 0.95


@pytest.mark.parametrize("tolerance", [1.0, 2.0, 4.0])
def test_no_outline_moves_by_more_than_the_tolerance(tolerance: float) -> None:
    mask = ring(600)
    (points,) = encode(mask, tolerance)
    wrong = decode(points, *mask.shape) ^ mask
    inside, outside = (cv2.distanceTransform(m.astype(np.uint8), cv2.DIST_L2, 5) for m in (mask, ~mask))
    assert wrong.any()
    assert np.maximum(inside, outside)[wrong].max() <= tolerance + 1  # pixels are a pixel wide
    assert len(points) < len(encode(mask, tolerance / 2)[0])


def test_a_hole_stays_open() -> None:
    mask = ring()
    (points,) = encode(mask, 1.0)
    back = decode(points, *mask.shape)
    assert not back[60, 60]
    assert iou(back, mask) > 0.97


def test_pieces_are_polygons_and_the_largest_is_the_first() -> None:
    mask = np.zeros((50, 80), bool)
    mask[5:10, 5:10] = mask[20:45, 30:70] = True
    first, second = encode(mask, 1.0)
    assert decode(first, 50, 80)[30, 50]
    assert decode(second, 50, 80)[7, 7]


def test_a_clicked_speck_is_kept_whatever_the_tolerance() -> None:
    mask = np.zeros((100, 100), bool)
    mask[10:90, 10:70] = mask[50, 80] = True
    assert len(encode(mask, 3.0)) == 1
    assert read(encode(mask, 3.0, [(50, 80)]), 100, 100)[50, 80]
    mask[50, 40] = False  # a hole of a pixel, as a negative click makes it
    assert not read(encode(mask, 3.0, [(50, 40)]), 100, 100)[50, 40]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 20)), min_size=3, max_size=3))
def test_a_pixel_is_in_a_triangle_if_its_centre_is(corners: list[tuple[float, float]]) -> None:
    found = decode([[x * 100 / 30, y * 100 / 20] for x, y in corners], 20, 30)
    outline = np.array(corners, np.float32)[:, None]
    for row, column in np.ndindex(20, 30):
        distance = cv2.pointPolygonTest(outline, (column + 0.5, row + 0.5), True)
        if abs(distance) > 0.05:  # corners are read to a part of a pixel
            assert found[row, column] == (distance > 0)


def test_what_lies_outside_is_cut_off() -> None:
    mask = decode([[-50, -50], [50, -50], [50, 50], [-50, 50]], 10, 20)
    assert mask[:5, :10].all()
    assert mask.sum() == 50


def test_a_polygon_that_crosses_itself_is_filled_as_the_canvas_does() -> None:
    bow_tie = decode([[0, 0], [100, 100], [100, 0], [0, 100]], 40, 40)
    assert [bow_tie[place] for place in ((20, 5), (20, 35), (5, 20))] == [True, True, False]
    turns = [(50 + 45 * np.sin(a), 50 - 45 * np.cos(a)) for a in np.arange(5) * 4 * np.pi / 5]
    star = decode([[float(x), float(y)] for x, y in turns], 40, 40)
    assert star[20, 20]  # by the nonzero rule; by the other one it would be a hole


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (None, "NoneType"),
        ([[1, 2], [3, 4]], "2 points"),
        ([[1, 2], [3, 4], [5]], "no .x, y."),
        ([[1, 2], [3, 4], [5, float("nan")]], "no .x, y."),
        ([[1, 2], [3, 4], [5, True]], "no .x, y."),
        ([[1, 2], [3, 4], [5, "6"]], "no .x, y."),
        ([[1, 2], [3, 4], [5, 1e300]], "no .x, y."),
        ([[1, 2], [3, 4], [5, 10**400]], "no .x, y."),
        ([[i % 7, 100 * (i % 2)] for i in range(2000)], "too many"),
    ],
)
def test_what_is_no_polygon_is_refused_with_its_reason(points: Any, expected: str) -> None:
    with pytest.raises(PolygonError, match=expected):
        decode(points, 2000, 100)


def test_an_empty_mask_has_no_outline() -> None:
    assert encode(np.zeros((4, 6), bool), 1.0) == []
    assert not decode([[0.0, 0.0]] * 3, 4, 6).any()
