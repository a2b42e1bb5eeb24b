"""Specks: small islands of a part, away from the rest of it, become what is around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.localization import Point

_LEAST_SHARE = 0.03
"""An island with less than this share of its part is a speck."""
_LEAST_CELLS = 6
_CERTAIN = 0.8
"""Of a part that is clicked, islands without a click stay if the network is as sure of them on average."""


def tidy(logits: NDArray[np.float32], points: Sequence[Point]) -> NDArray[np.float32]:
    """Removes the islands of each channel that hold no positive click and are small beside the rest of it.

    Of a channel that is clicked elsewhere, the islands of which the network is not sure go, too. The channel's logit
    is lowered there to just below the runner-up's, so the runner-up takes over.

    Args:
        logits: (K, h, w), one cell for 2x2 pixels of the points' coordinates; changed in place.
        points: Clicks in working pixels.

    Returns:
        The logits.
    """
    winner = logits.argmax(0)
    _, height, width = logits.shape
    clicked: dict[int, list[tuple[int, int]]] = {}
    for x, y, channel, is_positive in points:
        row, column = int(y // 2), int(x // 2)
        if is_positive and 0 <= row < height and 0 <= column < width:
            clicked.setdefault(channel, []).append((row, column))
    for channel in np.unique(winner):
        count, islands, stats, _ = cv2.connectedComponentsWithStats((winner == channel).astype(np.uint8))
        if count <= 2 and (stats[-1, cv2.CC_STAT_AREA] >= _LEAST_CELLS or channel in clicked):
            continue
        sizes = stats[:, cv2.CC_STAT_AREA]
        least = max(_LEAST_CELLS, _LEAST_SHARE * sizes[1:].sum())
        is_speck = sizes < least
        if channel in clicked and count > 2:
            is_speck |= _mean_probabilities(logits, int(channel), islands, sizes) < _CERTAIN
            for row, column in clicked[int(channel)]:
                is_speck[islands[row, column]] = False
        is_speck[0] = False
        rows, columns = np.nonzero(is_speck[islands])
        if len(rows):
            there = logits[:, rows, columns]
            there[channel] = -np.inf
            logits[channel, rows, columns] = there.max(0) - np.float32(0.1)
    return logits


def _mean_probabilities(
    logits: NDArray[np.float32], channel: int, islands: NDArray[np.int32], sizes: NDArray[np.int32]
) -> NDArray[Any]:
    """The channel's mean probability on each island."""
    rows, columns = np.nonzero(islands)
    there = logits[:, rows, columns]
    probabilities = np.exp(there[channel] - there.max(0)) / np.exp(there - there.max(0)).sum(0)
    sums: NDArray[Any] = np.bincount(islands[rows, columns], probabilities, len(sizes))
    return sums / np.maximum(sizes, 1)  # type: ignore[no-any-return]
