"""The clicks behind a mask go into the region and come back, unless the mask was changed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ihp_backend.annotation.masks import PackedMask, TimedClick, with_new
from ihp_backend.clicks import Click
from ihp_backend.label_studio.click_provenance import from_meta, to_meta

MASK = np.eye(30, 40, dtype=bool)
CLICKS = (TimedClick(Click(3.25, 4.5, "Face"), 1), TimedClick(Click(39.9, 0.0, "Face", False), 2))


def test_they_come_back_as_they_were() -> None:
    meta = json.loads(json.dumps(to_meta(CLICKS, MASK) | {"text": ["a note"]}))
    assert from_meta(meta, "Face", PackedMask.of(MASK)) == CLICKS


def test_not_of_a_mask_that_was_changed_by_hand() -> None:
    changed = MASK.copy()
    changed[20, 3] = True
    assert from_meta(to_meta(CLICKS, MASK), "Face", PackedMask.of(changed)) == ()


@pytest.mark.parametrize("clicks", [None, 5, [[1, 2]], [["x", 1, 1, 1]], [[1e9, 1, 1, 1]], [[float("nan"), 1, 1, 1]]])
def test_what_is_not_readable_counts_as_nothing(clicks: object) -> None:
    meta = to_meta((), MASK)
    meta["ihp"]["clicks"] = clicks
    assert from_meta(meta, "Face", PackedMask.of(MASK)) == ()
    assert from_meta(None, "Face", PackedMask.of(MASK)) == from_meta({"ihp": 3}, "Face", PackedMask.of(MASK)) == ()


def test_new_clicks_follow_the_known_ones_and_the_number_is_bounded() -> None:
    new = Click(7.0, 7.0, "Face")
    assert with_new(CLICKS, [CLICKS[0].click, new], 9) == (*CLICKS, TimedClick(new, 9))
    many = with_new((), [Click(float(i % 40), 1.0 + i / 100, "Face") for i in range(100)], 9)
    assert len(many) == 40


def test_a_number_that_no_float_holds_is_not_read() -> None:
    mask = np.ones((4, 4), bool)
    meta = to_meta((), mask)
    meta["ihp"]["clicks"] = [[10**400, 0, 1, 0]]
    assert from_meta(meta, "Face", PackedMask.of(mask)) == ()
