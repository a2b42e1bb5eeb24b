"""Specks: small islands of a part, away from the rest of it, become what is around them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.localization import Point

_LEAST_SHARE = 0.03
"""An island with less than this share of its part is a speck."""
_LEAST_CELLS = 6


def tidy(logits: NDArray[np.float32], points: Sequence[Point]) -> NDArray[np.float32]:
    """Removes the islands of each channel that are small beside the rest of it and hold no positive click.

    The channel's logit is lowered there to just below the runner-up's, so the runner-up takes over.

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
        if count <= 2 and stats[-1, cv2.CC_STAT_AREA] >= _LEAST_CELLS:
            continue
        sizes = stats[:, cv2.CC_STAT_AREA]
        least = max(_LEAST_CELLS, _LEAST_SHARE * sizes[1:].sum())
        is_speck = sizes < least
        is_speck[0] = False
        for row, column in clicked.get(int(channel), ()):
            is_speck[islands[row, column]] = False
        rows, columns = np.nonzero(is_speck[islands])
        if len(rows):
            there = logits[:, rows, columns]
            there[channel] = -np.inf
            logits[channel, rows, columns] = there.max(0) - np.float32(0.1)
    return logits
