"""The pixel of a click."""

from __future__ import annotations

import pytest

from ihp_backend.clicks import Click


@pytest.mark.parametrize(
    ("x", "y", "pixel"),
    [(0.0, 0.0, (0, 0)), (2.99, 1.0, (1, 2)), (3.0, 0.99, (0, 3)), (8.0, 5.0, (4, 7)), (-0.5, 99.0, (4, 0))],
)
def test_a_click_lies_in_a_pixel_of_the_photo(x: float, y: float, pixel: tuple[int, int]) -> None:
    assert Click(x, y, "face").pixel(5, 8) == pixel
