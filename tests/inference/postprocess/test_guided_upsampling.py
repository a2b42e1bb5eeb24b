"""Masks at full size step where the photo does."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ihp_backend.geometry import Box, View
from ihp_backend.inference.postprocess.guided_upsampling import GuidedUpsampling


def leaning(height: int, width: int) -> NDArray[np.bool_]:
    """The left of a photo, up to a slanting line."""
    rows, columns = np.mgrid[:height, :width]
    found: NDArray[np.bool_] = columns < 0.4 * width + 0.2 * rows
    return found


def test_an_edge_that_the_cells_round_off_is_found_again() -> None:
    truth = leaning(400, 300)
    photo = np.where(truth, 90, 150).astype(np.uint8)[..., None].repeat(3, 2)
    view = View(Box(0, 0, 300, 400), 160, 120)
    coarse = cv2.resize(truth.astype(np.float32), (20, 27), interpolation=cv2.INTER_AREA)  # a fourth of the size
    values = 2 * cv2.resize(coarse, (60, 80), interpolation=cv2.INTER_LINEAR).astype(np.float32) - 1
    wrong = int(((view.enlarge(values) > 0) != truth).sum())
    found = GuidedUpsampling.of(photo, view).enlarge(values) > 0
    assert wrong > 200
    assert (found != truth).sum() < wrong / 2


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 255), st.floats(-0.96875, 1, width=32))
def test_on_a_plain_wall_what_is_the_same_everywhere_stays_so(height: int, width: int, grey: int, value: float) -> None:
    photo = np.full((height + 3, width + 5, 3), grey, np.uint8)
    view = View(Box(5, 3, 5 + width, 3 + height), 32, 48)
    found = GuidedUpsampling.of(photo, view).enlarge(np.full((16, 24), value, np.float32))
    assert found.shape == (height, width)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, value, atol=1e-4)


def test_the_photo_outside_the_view_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    photo, values = rng.integers(0, 255, (90, 80, 3), np.uint8), rng.normal(size=(16, 16)).astype(np.float32)
    view = View(Box(10, 20, 60, 80), 32, 32)
    before = GuidedUpsampling.of(photo, view).enlarge(values)
    outside = np.ones((90, 80), bool)
    outside[view.box.slices] = False
    photo[outside] = 0
    assert np.array_equal(GuidedUpsampling.of(photo, view).enlarge(values), before)


def test_where_no_mask_comes_to_be_nothing_is_computed() -> None:
    """Of a small part in a large photo, the answer is that of the whole photo where the part is, and no elsewhere."""
    rng = np.random.default_rng(1)
    photo = cv2.GaussianBlur(rng.integers(0, 255, (600, 400, 3), np.uint8), (0, 0), 5).astype(np.uint8)
    view = View(Box(0, 0, 400, 600), 192, 128)
    values = np.full((96, 64), -1, np.float32)
    values[40:50, 20:30] = 0.9
    upsampling = GuidedUpsampling.of(photo, view)
    found = upsampling.enlarge(values)
    around = np.zeros((600, 400), bool)
    around[200:360, 90:220] = True
    assert (found[~around] == -1).all()
    shifted = upsampling.enlarge(values + np.float32(0.05))  # above the limit everywhere: nothing is left out
    assert 0 < ((found > 0) != (shifted > 0.05)).sum() + 1 < 40
    assert (found > 0).sum() > 2500
