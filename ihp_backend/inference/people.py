"""Which cells belong together: a figure is a connected piece of what is not background, small gaps closed."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

_GAP = 0.02
"""Gaps up to this share of the longer side are closed."""


def joined(seen: NDArray[np.bool_]) -> NDArray[Any]:
    """Closes the small gaps of what is seen, (h, w); returns uint8, 0 and 1, ready to be numbered."""
    reach = max(3, round(_GAP * max(seen.shape)))
    cells = seen.astype(np.uint8)
    closed = cv2.morphologyEx(cells, cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    return cv2.max(closed, cells)  # closing with an even reach moves the edge


def winners(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """The channel with the greatest of (K, h, w) logits in each cell, (h, w).

    By torch, which is faster than numpy at it: where the channels lie side by side in memory, and where they do not.
    """
    found: NDArray[np.int64] = torch.from_numpy(logits).max(0).indices.numpy()
    return found


def two_best(logits: NDArray[np.float32], winner: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The logit (h, w) of each cell's winner, and the greatest one of the other channels."""
    first = np.take_along_axis(logits, winner[None], 0)[0]
    rest = logits.copy(order="K")
    np.put_along_axis(rest, winner[None], -np.inf, 0)
    second: NDArray[np.float32] = torch.from_numpy(rest).max(0).values.numpy()
    return first, second
