"""Percent of a photo: the bounds of clicks, polygons and rectangles."""

from __future__ import annotations

from typing import Any

import pytest

from ihp_backend.label_studio import polygon, rectangle
from ihp_backend.label_studio.percent import is_number, is_percent


@pytest.mark.parametrize("value", [0, -3, 2.5, 1e308, 10**300])
def test_numbers(value: float) -> None:
    assert is_number(value)


@pytest.mark.parametrize("value", [None, "1", True, [1], float("nan"), float("inf"), 10**400, -(10**400)])
def test_what_is_no_number(value: object) -> None:
    assert not is_number(value)
    assert not is_percent(value, beyond=1e300)


@pytest.mark.parametrize(("beyond", "low", "high"), [(0.0, 0, 100), (100.0, -100, 200)])
def test_both_bounds_belong_to_the_range(beyond: float, low: int, high: int) -> None:
    assert is_percent(low, beyond)
    assert is_percent(high, beyond)
    assert not is_percent(low - 0.001, beyond)
    assert not is_percent(high + 0.001, beyond)


@pytest.mark.parametrize("x", [-100, 200])
def test_a_corner_of_a_polygon_may_be_one_photo_outside(x: float) -> None:
    others = [[50, 0], [50, 100]]
    assert polygon.decode([[x, 50], *others], 10, 10).any()
    with pytest.raises(polygon.PolygonError, match="percent"):
        polygon.decode([[x * 1.001, 50], *others], 10, 10)


@pytest.mark.parametrize(("axis", "farthest"), [("x", -200), ("x", 200), ("y", -200), ("width", 200), ("height", 200)])
def test_a_rectangle_may_begin_two_photos_outside(axis: str, farthest: float) -> None:
    value: dict[str, Any] = {"x": 10, "y": 10, "width": 20, "height": 20}
    assert rectangle.decode(value | {axis: farthest}, 10, 10).shape == (10, 10)
    with pytest.raises(rectangle.RectangleError, match="far outside"):
        rectangle.decode(value | {axis: farthest * 1.001}, 10, 10)


def test_a_turned_rectangle_that_begins_outside_reaches_into_the_photo() -> None:
    value = {"x": 50, "y": -120, "width": 200, "height": 20, "rotation": 90}
    assert rectangle.decode(value, 10, 10).any()
