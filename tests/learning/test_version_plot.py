"""What the picture of a project's versions shows."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.learning.version import Status, Version
from ihp_backend.learning.version_plot import draw_versions

BLUE = (31, 119, 180)  # matplotlib's first


def version(number: int, before: float, after: float) -> Version:
    figures = {"miou_at_0": before}, {"miou_at_0": after, "miou_at_2": 0.9}
    return Version(f"lip-4+p1.00{number}", Path(), Status("promoted", "better", before=figures[0], after=figures[1]))


def drawn(*versions: Version) -> NDArray[np.uint8]:
    with Image.open(BytesIO(draw_versions(versions, "lip-4+p1.001"))) as picture:
        return np.asarray(picture.convert("RGB"))


def pixels(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    inside = picture[:, : int(0.7 * picture.shape[1])]  # the legend is at the right
    return np.asarray((np.abs(inside.astype(int) - colour) < 8).all(2))


def test_what_rose_is_higher_at_its_right_end() -> None:
    rose, fell = (pixels(drawn(version(1, *figures)), BLUE) for figures in ((0.2, 0.8), (0.8, 0.2)))
    for found, is_higher in ((rose, True), (fell, False)):
        rows, columns = np.nonzero(found)
        left, right = (rows[columns <= np.quantile(columns, 0.2)], rows[columns >= np.quantile(columns, 0.8)])
        assert (right.mean() < left.mean()) == is_higher


def test_what_was_not_measured_before_is_not_drawn_and_none_makes_an_empty_picture() -> None:
    one, two = (drawn(*(version(n, 0.2, 0.8) for n in range(1, count))) for count in (2, 3))
    assert two.shape[1] > one.shape[1] or pixels(two, BLUE).sum() > pixels(one, BLUE).sum()
    assert pixels(drawn(), BLUE).sum() < pixels(one, BLUE).sum()
