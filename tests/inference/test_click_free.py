"""The prediction without clicks is a mean over sizes and mirror images."""

from __future__ import annotations

from unittest.mock import Mock, patch

import numpy as np
import pytest
from untrained import PHOTO, predictor_of

from ihp_backend.geometry import Box, View
from ihp_backend.inference.click_free import click_free


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
