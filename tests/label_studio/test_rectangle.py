"""Rectangles: the box of a mask and back, turned ones, and what is none."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ihp_backend.label_studio.rectangle import RectangleError, decode, encode

BOX = {"x": 25.0, "y": 20.0, "width": 50.0, "height": 40.0, "rotation": 0}


@settings(deadline=None)
@given(st.data())
def test_the_box_of_a_mask_is_filled_to_the_pixel(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 500)), data.draw(st.integers(1, 500))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    mask = np.zeros((height, width), bool)
    mask[top, left] = mask[bottom - 1, right - 1] = True
    filled = np.zeros_like(mask)
    filled[top:bottom, left:right] = True
    assert np.array_equal(decode(encode(mask), height, width), filled)


@pytest.mark.parametrize("turned", [0, 30, 90, 200, -45])
def test_a_turned_box_turns_clockwise_around_its_corner(turned: float) -> None:
    found = decode(BOX | {"rotation": turned}, 200, 300)
    angle = np.radians(turned)
    across, down = np.array([np.cos(angle), np.sin(angle)]) * 150, np.array([-np.sin(angle), np.cos(angle)]) * 80
    start = np.array([75.0, 40.0])
    corners = np.array([start, start + across, start + across + down, start + down]) - 0.5
    expected = np.zeros((200, 300), np.uint8)
    cv2.fillPoly(expected, [np.round(corners * 64).astype(np.int32)], 1, shift=6)
    assert (found ^ (expected > 0)).sum() <= 0.05 * expected.sum()  # cv2 takes the pixels of the edge, too


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"width": 0}, "0 by 40 percent"),
        ({"height": -3.0}, "expected a size"),
        ({"x": None}, "expected the numbers"),
        ({"x": True}, "expected the numbers"),
        ({"y": float("nan")}, "expected the numbers"),
        ({"rotation": float("inf")}, "expected the numbers"),
        ({"width": 10**400}, "expected the numbers"),
        ({"x": 5000.0}, "far outside"),
    ],
)
def test_what_is_no_rectangle_is_refused_with_its_reason(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(RectangleError, match=expected):
        decode(BOX | changes, 40, 60)


def test_an_empty_mask_has_a_box_of_no_size() -> None:
    assert encode(np.zeros((4, 6), bool)) == {"x": 0.0, "y": 0.0, "width": 0.0, "height": 0.0, "rotation": 0}
