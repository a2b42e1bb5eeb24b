"""The prediction without clicks is a mean over sizes and mirror images."""

from __future__ import annotations

from unittest.mock import Mock, patch

import cv2
import numpy as np
import pytest
from untrained import PHOTO, predictor_of

from ihp_backend.geometry import Box, View
from ihp_backend.inference.click_free import click_free, coarse_size


def test_without_clicks_a_mirrored_photo_gives_the_mirrored_answer() -> None:
    """Left and right swapped: the mean over both ways knows no preferred side, which the network alone has."""
    predictor = predictor_of()
    view = View(Box(0, 0, 80, 120), 96, 64)
    order = [*predictor.schema.mirrored, *range(20, 24)]
    one, other = (click_free(predictor.engine, p, view, None) for p in (PHOTO, np.ascontiguousarray(PHOTO[:, ::-1])))
    assert np.abs(one - other[order, :, ::-1]).max() < 0.1  # bfloat16
    nothing = predictor.engine.no_prev_mask(view)
    plain = predictor.engine.run(PHOTO, view, (), nothing)[0]
    turned = predictor.engine.run(PHOTO, view, (), nothing, mirrored=True)[0]
    assert np.abs(plain - turned[order, :, ::-1]).max() > 0.1


@pytest.mark.parametrize(("options", "passes"), [({}, 4), ({"flip": False}, 2), ({"second_size": False}, 2)])
def test_the_passes_without_clicks_can_be_left_out(options: dict[str, bool], passes: int) -> None:
    predictor = predictor_of()
    view = View(Box(0, 0, 80, 120), 96, 64)
    runs = Mock(wraps=predictor.engine.run)
    with patch.object(predictor.engine, "run", runs):
        found = click_free(predictor.engine, PHOTO, view, None, **options)
    assert runs.call_count == passes
    plain = predictor.engine.run(PHOTO, view, (), predictor.engine.no_prev_mask(view))[0]
    assert 0 < np.abs(found - plain).mean() < np.abs(plain).mean(), "a mean of what the passes say"


def test_it_is_the_mean_of_four_passes() -> None:
    predictor = predictor_of()
    engine, view = predictor.engine, View(Box(0, 0, 80, 120), 96, 64)
    photo = PHOTO.copy()
    photo[:, :40] = np.random.default_rng(0).integers(0, 255, (120, 40, 3))
    order = [*predictor.schema.mirrored, *range(20, 24)]
    expected = np.zeros((24, *view.grid), np.float32)
    for seen in (view, View(view.box, *coarse_size(view.box, engine.config.area))):
        nothing = engine.no_prev_mask(seen)
        plain, _ = engine.run(photo, seen, (), nothing)
        other_way, _ = engine.run(np.ascontiguousarray(photo[:, ::-1]), seen, (), nothing)
        for logits in (plain, other_way[order, :, ::-1]):
            planes = [cv2.resize(np.ascontiguousarray(plane), view.grid[::-1]) for plane in logits]
            expected += np.stack(planes) / 4
    found = click_free(engine, photo, view, None)
    of_the_mirror_image = expected[order, :, ::-1]
    assert np.abs(found - expected).mean() < 0.2 * np.abs(found - of_the_mirror_image).mean()


def test_a_coarse_pass_sees_half_the_area() -> None:
    height, width = coarse_size(Box(0, 0, 400, 200), 512 * 512)
    assert height * width == pytest.approx(512 * 512 / 2, rel=0.05)
    assert height / width == pytest.approx(0.5, rel=0.05)
