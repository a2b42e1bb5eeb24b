"""Clicks become maps: checked against the formula, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ihp_backend.network.click_maps import MapKind, Point, localization_maps

points = st.builds(Point, st.floats(-20, 60), st.floats(-20, 50), st.integers(0, 3), st.booleans())


def gaussian_at(point: Point, column: int, row: int, size: float) -> float:
    squared = (column + 0.5 - point.x) ** 2 + (row + 0.5 - point.y) ** 2
    return math.exp(-4 * math.log(2) * squared / size**2)


def test_a_gaussian_by_hand() -> None:
    point = Point(20.5, 15.5, 2)
    maps = localization_maps([point], 4, 40, 50, size=10)
    assert maps.shape == (4, 40, 50)
    assert maps.dtype == np.float32
    assert maps[2, 15, 20] == 1
    assert maps[2, 15, 25] == pytest.approx(0.5)  # half the maximum at half the full width
    assert maps[2, 22, 20] == pytest.approx(gaussian_at(point, 20, 22, 10), abs=1e-6)
    assert not maps[[0, 1, 3]].any()


def test_a_disk_by_hand() -> None:
    disk = localization_maps([Point(10.5, 10.5, 0)], 1, 21, 21, kind="disk", size=10)[0]
    rows, columns = np.indices((21, 21))
    assert np.array_equal(disk == 1, (rows - 10) ** 2 + (columns - 10) ** 2 <= 25)
    assert set(np.unique(disk)) == {0, 1}


def test_clicks_of_one_part_merge_by_maximum() -> None:
    a, b = Point(10.0, 10.0, 0), Point(14.0, 10.0, 0)
    both = localization_maps([a, b], 1, 20, 30)
    alone = np.maximum(localization_maps([a], 1, 20, 30), localization_maps([b], 1, 20, 30))
    assert np.array_equal(both, alone)


def test_a_negative_click_is_a_negative_blob_of_its_part() -> None:
    maps = localization_maps([Point(10.5, 10.5, 1, is_positive=False)], 2, 20, 20)
    assert maps[1, 10, 10] == -1
    assert maps[1].max() <= 0
    assert not maps[0].any()


def test_a_negative_click_wins_over_a_positive_one_whatever_the_order() -> None:
    good, bad = Point(10.5, 10.5, 0), Point(12.5, 10.5, 0, is_positive=False)
    maps = localization_maps([good, bad], 1, 20, 20)
    assert np.array_equal(maps, localization_maps([bad, good], 1, 20, 20))
    assert maps[0, 10, 12] < 0 < maps[0, 10, 8]


@settings(deadline=None)
@given(st.lists(points, max_size=8), st.sampled_from(["gaussian", "disk"]), st.floats(1, 30))
def test_any_clicks_stay_in_range(clicks: list[Point], kind: MapKind, size: float) -> None:
    maps = localization_maps(clicks, 4, 30, 40, kind=kind, size=size)
    assert np.isfinite(maps).all()
    assert maps.min() >= -1
    assert maps.max() <= 1
    for channel in set(range(4)) - {c.channel for c in clicks}:
        assert not maps[channel].any()


@given(st.floats(0, 40), st.floats(0, 30))
def test_a_mirrored_click_is_the_mirrored_map(x: float, y: float) -> None:
    maps = localization_maps([Point(x, y, 0)], 1, 30, 40)
    mirrored = localization_maps([Point(40 - x, y, 0)], 1, 30, 40)
    # The two blobs are cut at whole pixels: what is cut is below a thousandth.
    assert mirrored[..., ::-1] == pytest.approx(maps, abs=2e-3)
