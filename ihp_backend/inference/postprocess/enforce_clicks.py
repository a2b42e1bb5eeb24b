"""Logits that contradict a click are corrected around it, as far as the image looks alike."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.network.click_maps import Point

_REACH = 12.0
"""Standard deviation, in cells of the logits, of how far a correction reaches."""
_SURPLUS = 0.5


def enforce_clicks(
    logits: NDArray[np.float32], embedding: NDArray[np.float32] | None, points: Sequence[Point]
) -> NDArray[np.float32]:
    """Makes each click's part win (a negative click's part lose) at the click.

    Where the network obeys already, nothing changes. Otherwise the part's logit is raised by what it deficits at the
    click, fading with the distance and with the unlikeness of the features.

    Args:
        logits: (K, h, w), one cell for 2x2 pixels of the points' coordinates; changed in place.
        embedding: (D, h/2, w/2) features, or ``None``: then only the distance counts.
        points: Clicks in working pixels; those outside are passed over.

    Returns:
        The logits.
    """
    _, height, width = logits.shape
    for point in points:
        channel, is_positive = point.channel, point.is_positive
        row, column = point.cell
        if not (0 <= row < height and 0 <= column < width):
            continue
        rest = np.delete(logits[:, row, column], channel).max()
        margin = float(logits[channel, row, column] - rest)
        deficit = _SURPLUS - margin if is_positive else _SURPLUS + margin
        if deficit <= 0:
            continue
        reach = int(3 * _REACH)
        top, bottom = max(row - reach, 0), min(row + reach + 1, height)
        left, right = max(column - reach, 0), min(column + reach + 1, width)
        dy = np.arange(top, bottom, dtype=np.float32) - row
        dx = np.arange(left, right, dtype=np.float32) - column
        weight = np.exp((dy[:, None] ** 2 + dx[None, :] ** 2) / np.float32(-2 * _REACH**2))
        if embedding is not None:
            weight = weight * _alike(embedding, row, column, height, width)[top:bottom, left:right]
        logits[channel, top:bottom, left:right] += np.float32(deficit if is_positive else -deficit) * weight
    return logits


def _alike(embedding: NDArray[np.float32], row: int, column: int, height: int, width: int) -> NDArray[np.float32]:
    """Likeness, 0 to 1, of each cell's features to those at one cell; (height, width)."""
    features = embedding / (np.linalg.norm(embedding, axis=0, keepdims=True) + 1e-6)
    rows, columns = features.shape[1:]
    own = features[:, min(row * rows // height, rows - 1), min(column * columns // width, columns - 1)]
    cosine = np.tensordot(own, features, 1).clip(0, 1) ** 2
    likeness = cv2.resize(cosine, (width, height), interpolation=cv2.INTER_LINEAR)
    likeness[row, column] = 1
    return likeness  # type: ignore[return-value]
