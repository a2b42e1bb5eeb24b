"""Specks go, parts stay, clicks stay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ihp_backend.inference.tidy import tidy
from ihp_backend.localization import Point


def logits_of(winner: NDArray[np.int64], channels: int = 4) -> NDArray[np.float32]:
    logits = np.zeros((channels, *winner.shape), np.float32)
    np.put_along_axis(logits, winner[None], 5, axis=0)
    logits[0] += 1  # the background is the runner-up
    return logits


def scene() -> NDArray[np.int64]:
    winner = np.zeros((40, 50), np.int64)
    winner[5:25, 5:25] = 1  # a part
    winner[30:35, 30:40] = 1  # an eighth of it: stays
    winner[2:4, 45:48] = 1  # a speck
    winner[10:12, 10:12] = 2  # a speck of another part, inside the first
    return winner


def test_specks_become_the_runner_up() -> None:
    winner = scene()
    said = tidy(logits_of(winner), []).argmax(0)
    assert (said[2:4, 45:48] == 0).all()
    assert not (said == 2).any()
    kept = (winner == 1).copy()
    kept[2:4, 45:48] = False
    assert np.array_equal(said == 1, kept)


def test_a_clicked_speck_stays() -> None:
    clicks = [Point(2 * 46, 2 * 3, 1), Point(2 * 10 + 1, 2 * 10 + 1, 2)]
    said = tidy(logits_of(scene()), clicks).argmax(0)
    assert np.array_equal(said, scene())


def test_a_negative_click_keeps_nothing() -> None:
    said = tidy(logits_of(scene()), [Point(2 * 46, 2 * 3, 1, is_positive=False)]).argmax(0)
    assert (said[2:4, 45:48] == 0).all()


def test_the_rest_is_untouched() -> None:
    logits = logits_of(scene())
    after = tidy(logits.copy(), [])
    same = (after == logits).all(0)
    assert np.array_equal(~same, np.isin(scene(), (1, 2)) & ~(after.argmax(0) == scene()))


def test_of_a_clicked_part_only_sure_islands_stay() -> None:
    winner = np.zeros((40, 50), np.int64)
    winner[5:20, 5:20] = winner[5:20, 30:45] = winner[25:38, 5:20] = 1
    logits = logits_of(winner)
    logits[1, 25:38, 5:20] = 1.5  # 0.5 above the background: about 0.5 sure
    said = tidy(logits.copy(), [Point(20, 20, 1)]).argmax(0)
    assert (said[5:20, 5:20] == 1).all()
    assert (said[5:20, 30:45] == 1).all()
    assert not (said[25:38, 5:20] == 1).any()
    assert (tidy(logits.copy(), []).argmax(0) == winner).all()
    assert (tidy(logits.copy(), [Point(20, 20, 1), Point(20, 60, 1)]).argmax(0) == winner).all()
