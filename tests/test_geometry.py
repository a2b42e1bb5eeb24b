"""Where a pixel is: the inverses are exact, and OpenCV follows the same rule."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ihp_backend.geometry import Box, View, box_of, percent_to_pixels, pixels_to_percent, working_size

sides = st.integers(1, 5000)


@given(st.floats(0, 100), st.floats(0, 100), sides, sides)
def test_percent_and_back(x: float, y: float, height: int, width: int) -> None:
    pixels = percent_to_pixels(x, y, height, width)
    assert 0 <= pixels[0] <= width
    assert 0 <= pixels[1] <= height
    assert pixels_to_percent(*pixels, height, width) == pytest.approx((x, y))


@given(st.data())
def test_a_view_maps_there_and_back(data: st.DataObject) -> None:
    left, top = data.draw(st.integers(0, 300)), data.draw(st.integers(0, 300))
    box = Box(left, top, left + data.draw(st.integers(1, 300)), top + data.draw(st.integers(1, 300)))
    view = View(box, data.draw(st.integers(16, 600)), data.draw(st.integers(16, 600)))
    assert view.into(box.left, box.top) == (0, 0)
    assert view.into(box.right, box.bottom) == pytest.approx((view.width, view.height))
    x, y = data.draw(st.floats(-50, 650)), data.draw(st.floats(-50, 650))
    assert view.out_of(*view.into(x, y)) == pytest.approx((x, y), abs=1e-6)


@given(sides, sides, st.sampled_from([64 * 64, 256 * 256, 512 * 256]))
def test_working_sizes_fit_the_network(height: int, width: int, area: int) -> None:
    h, w = working_size(height, width, area=area)
    assert h % 16 == 0
    assert w % 16 == 0
    assert min(h, w) >= 16
    assert max(h, w) <= 4 * area**0.5 + 16
    if 1 / 3 < height / width < 3:
        assert h * w == pytest.approx(area, rel=0.3)
        assert h / w == pytest.approx(height / width, rel=0.35)


@given(st.data())
def test_the_box_of_a_mask_is_tight(data: st.DataObject) -> None:
    mask = np.zeros((40, 60), bool)
    for _ in range(data.draw(st.integers(0, 5))):
        mask[data.draw(st.integers(0, 39)), data.draw(st.integers(0, 59))] = True
    box = box_of(mask)
    if not mask.any():
        assert box is None
        return
    assert box is not None
    inside = mask[box.slices]
    assert inside.sum() == mask.sum()
    for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
        assert edge.any()


def test_boxes_grow_within_the_image() -> None:
    assert Box(10, 20, 30, 70).grown(0.1, 72, 100) == Box(5, 15, 35, 72)
    assert Box(1, 2, 3, 4).union(Box(0, 3, 2, 9)) == Box(0, 2, 3, 9)
    assert (Box(1, 2, 4, 8).width, Box(1, 2, 4, 8).height) == (3, 6)


def test_a_dot_lands_where_the_coordinates_say() -> None:
    """A white square in a photo, seen through a view, has its centre where ``into`` puts it."""
    image = np.zeros((300, 400, 3), np.uint8)
    image[120:128, 200:208] = 255
    view = View(Box(100, 60, 340, 260), 400, 480)
    seen = view.crop(image)[..., 0].astype(float)
    rows, columns = np.indices(seen.shape)
    centre = ((columns + 0.5) * seen).sum() / seen.sum(), ((rows + 0.5) * seen).sum() / seen.sum()
    assert view.into(204, 124) == pytest.approx(centre, abs=0.02)


def test_what_the_network_says_lands_on_the_same_pixels() -> None:
    """A blob at half the working size, pasted back, has its centre where ``out_of`` puts it."""
    view = View(Box(40, 20, 240, 140), 192, 320)
    values = np.zeros((96, 160), np.float32)
    values[30:34, 70:78] = 1
    large = view.enlarge(values).astype(float)
    rows, columns = np.indices(large.shape)
    centre = ((columns + 0.5) * large).sum() / large.sum() + 40, ((rows + 0.5) * large).sum() / large.sum() + 20
    assert view.out_of(2 * 74, 2 * 32) == pytest.approx(centre, abs=0.02)


@pytest.mark.parametrize(("height", "width"), [(960, 1280), (950, 1270), (961, 1281)])
def test_a_large_photo_is_seen_as_in_one_step(height: int, width: int) -> None:
    """However it is made smaller: each pixel is about the mean of what it covers, and dots stay where they are."""
    rng = np.random.default_rng(3)
    blurred = cv2.GaussianBlur(rng.integers(0, 255, (height, width, 3), np.uint8), (0, 0), 3)
    image = cv2.normalize(blurred, np.empty_like(blurred), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    view = View(Box(0, 0, width, height), 96, 128)
    expected = cv2.resize(image, (128, 96), interpolation=cv2.INTER_AREA)
    difference = np.abs(view.crop(image).astype(int) - expected)
    assert difference.mean() < 1.5
    assert difference.max() <= 10
    dot = np.zeros((height, width, 3), np.uint8)
    dot[700:740, 900:940] = 255
    seen = view.crop(dot)[..., 0].astype(float)
    rows, columns = np.indices(seen.shape)
    centre = ((columns + 0.5) * seen).sum() / seen.sum(), ((rows + 0.5) * seen).sum() / seen.sum()
    assert view.into(920, 720) == pytest.approx(centre, abs=0.05)


@settings(deadline=None)
@given(st.data())
def test_the_coverage_of_a_mask_is_its_mean_over_each_stride_2_pixel(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    mask = np.zeros((90, 120), np.bool_)
    top, left = data.draw(st.integers(0, 80)), data.draw(st.integers(0, 110))
    mask[top : top + 40, left : left + 50] = rng.random(mask[top : top + 40, left : left + 50].shape) < 0.7
    box = box_of(mask)
    if box is None:
        return
    x, y = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 30))
    view = View(Box(x, y, 120, 90), 32, 48)  # 16x24 stride-2 pixels: smaller than the box whatever it is
    pixels = mask[view.box.slices].astype(np.float32)
    expected = cv2.resize(pixels, (24, 16), interpolation=cv2.INTER_AREA)
    assert np.allclose(view.coverage(mask, box), expected, atol=1e-4)
