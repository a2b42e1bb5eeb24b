"""What a negative click takes, and what it leaves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ihp_backend.inference.postprocess.remove_wrong_piece import remove_wrong_piece
from ihp_backend.network.click_maps import Point


def logits_of(*masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Logits (1 + K, h, w) in which each mask's channel leads by 2, and the background elsewhere."""
    found = np.zeros((1 + len(masks), *masks[0].shape), np.float32)
    found[0] = 1
    for channel, mask in enumerate(masks, 1):
        found[channel][mask] = 3
    return found


def block(top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
    mask = np.zeros((40, 60), bool)
    mask[top:bottom, left:right] = True
    return mask


def cell(row: int, column: int, channel: int = 1, *, is_positive: bool = True) -> Point:
    return Point(2.0 * column + 1, 2.0 * row + 1, channel, is_positive)


def test_without_a_negative_click_nothing_changes() -> None:
    logits = logits_of(block(5, 5, 30, 30))
    same = remove_wrong_piece(logits.copy(), None, [cell(10, 10)])
    assert np.array_equal(same, logits)


def test_an_island_goes_whole_and_the_clicked_one_stays() -> None:
    right, wrong = block(5, 5, 30, 25), block(5, 35, 30, 55)
    found = remove_wrong_piece(logits_of(right | wrong), None, [cell(10, 10), cell(10, 45, is_positive=False)])
    assert np.array_equal(found.argmax(0) == 1, right)


def test_of_a_mask_that_nobody_clicked_the_surest_place_stays() -> None:
    logits = logits_of(block(5, 5, 30, 50))
    logits[1, 15, 10] = 9
    found = remove_wrong_piece(logits, None, [cell(15, 45, is_positive=False)]).argmax(0) == 1
    assert found[5:30, 5:20].all()
    assert not found[10:20, 40:50].any()


def test_a_pinhole_of_the_network_does_not_hide_the_piece_that_was_there_before() -> None:
    right, wrong = block(5, 5, 30, 25), block(5, 35, 30, 55)
    after = (right | wrong) & ~block(6, 40, 16, 52)
    points = [cell(10, 10), cell(10, 45, is_positive=False)]
    before = (right | wrong).astype(np.intp)
    found = remove_wrong_piece(logits_of(after), None, points, before)
    assert np.array_equal(found.argmax(0) == 1, right)


def test_who_takes_over_is_the_runner_up() -> None:
    both = logits_of(block(5, 5, 30, 50), block(0, 0, 1, 1))
    both[2, 5:30, 30:] = 2
    found = remove_wrong_piece(both, None, [cell(15, 10), cell(15, 45, is_positive=False)]).argmax(0)
    assert found[15, 45] == 2
    assert found[15, 10] == 1


def test_clicks_outside_are_passed_over() -> None:
    logits = logits_of(block(5, 5, 30, 30))
    outside = [cell(-3, 10, is_positive=False), cell(10, 70, is_positive=False), cell(50, 10)]
    assert np.array_equal(remove_wrong_piece(logits.copy(), None, outside), logits)


def test_how_sure_the_network_is_counts_from_the_click_on() -> None:
    """The right half is sure, the wrong one is not; if all of the part is surer by 1, the same piece goes."""
    found = []
    for surer in (0.0, 1.0):
        logits = np.zeros((2, 30, 60), np.float32)
        logits[1, 5:25, 5:30], logits[1, 5:25, 30:55] = 4 + surer, 1 + surer
        points = [Point(30.0, 30.0, 1), Point(90.0, 30.0, 1, False)]
        found.append(remove_wrong_piece(logits, None, points).argmax(0))
    assert np.array_equal(*found)
    assert found[0][5:25, 8:28].all()
    assert not found[0][5:25, 34:55].any()
