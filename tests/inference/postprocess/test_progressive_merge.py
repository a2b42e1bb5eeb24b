"""A correction changes what it points at; edges far away stay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import Box, View
from ihp_backend.inference.label_channels import Channels
from ihp_backend.inference.postprocess.progressive_merge import progressive_merge
from ihp_backend.inference.prediction import Parse
from ihp_backend.parts import HELEN

FACE, HAIR = 1, 10
FIRST = Click(30.0, 30.0, "face-skin")


def parse_of(ids: NDArray[np.int64], *clicks: Click, margin: float = 2.0) -> Parse:
    """A parse of 80x60 pixels in which these channels (30, 40) have the greatest logit, by this margin."""
    logits = np.zeros((11, *ids.shape), np.float32)
    np.put_along_axis(logits, ids[None], margin, axis=0)
    channels = Channels(HELEN, 0, {name: (name,) for name in HELEN.names}, clicks)
    return Parse(60, 80, View(Box(0, 0, 80, 60), 60, 80), logits, channels, clicks)


def square(*places: tuple[int, int, int, int], part: int = FACE) -> NDArray[np.int64]:
    ids = np.zeros((30, 40), np.int64)
    for top, left, bottom, right in places:
        ids[top:bottom, left:right] = part
    return ids


BEFORE = parse_of(square((10, 10, 20, 20)), FIRST)


def test_the_piece_under_the_click_is_taken_over_whole() -> None:
    grown = square((10, 10, 20, 30))
    after = progressive_merge(BEFORE, parse_of(grown, FIRST, Click(50, 30, "face-skin")))
    assert np.array_equal(after.logits.argmax(0), grown)


def test_the_edge_far_from_the_click_stays_as_it_was() -> None:
    noisy = square((10, 10, 20, 30))
    noisy[9, 11:14] = FACE  # three stride-2 pixels more above, one column less at the left
    noisy[10:20, 10] = 0
    after = progressive_merge(BEFORE, parse_of(noisy, FIRST, Click(50, 30, "face-skin"), margin=0.4))
    assert np.array_equal(after.logits.argmax(0), square((10, 10, 20, 30)))


def test_elsewhere_only_what_the_network_is_sure_of_changes() -> None:
    far = square((10, 10, 20, 30))
    far[2:6, 30:36] = HAIR
    click = Click(50, 30, "face-skin")
    assert np.array_equal(progressive_merge(BEFORE, parse_of(far, FIRST, click, margin=1.0)).logits.argmax(0), far)
    unsure = progressive_merge(BEFORE, parse_of(far, FIRST, click, margin=0.3)).logits.argmax(0)
    assert np.array_equal(unsure, square((10, 10, 20, 30)))


def test_a_negative_click_takes_away_what_it_points_at() -> None:
    shrunk = square((10, 10, 20, 15))
    after = progressive_merge(
        BEFORE, parse_of(shrunk, FIRST, Click(36, 30, "face-skin", is_positive=False), margin=0.3)
    )
    assert np.array_equal(after.logits.argmax(0), shrunk)


def test_the_network_goes_on_from_what_it_said_itself() -> None:
    far = square((10, 10, 20, 30), (2, 30, 6, 36))
    after = progressive_merge(BEFORE, parse_of(far, FIRST, Click(50, 30, "face-skin"), margin=0.3))
    shown = np.zeros_like(after.logits)
    after.write_prev_mask(after.view, shown)
    assert np.array_equal(shown.argmax(0), far)


def test_another_view_of_the_photo_is_carried_over() -> None:
    wide = Parse(
        60, 80, View(Box(0, 0, 40, 60), 60, 40), BEFORE.logits[:, :, :20].copy(), BEFORE.channels, BEFORE.clicks
    )
    after = progressive_merge(wide, parse_of(square((10, 10, 20, 20)), FIRST, Click(36, 30, "face-skin")))
    assert np.array_equal(after.logits.argmax(0), square((10, 10, 20, 20)))
