"""Logits that contradict a click are corrected around it, as far as the image looks alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.inference.postprocess.likeness import feature_cell, likeness, unit_features
from ihp_backend.network.click_maps import Point


@dataclass(frozen=True)
class EnforceClicksOptions:
    """Options of ``enforce_clicks``.

    Attributes:
        reach: Standard deviation, in stride-2 pixels, of how far a correction reaches.
        margin: Logit margin by which a clicked part leads at its click, or trails at a negative one.
    """

    reach: float = 12.0
    margin: float = 0.5


_DEFAULTS = EnforceClicksOptions()


def enforce_clicks(
    logits: NDArray[np.float32],
    embedding: NDArray[np.float32] | None,
    points: Sequence[Point],
    options: EnforceClicksOptions = _DEFAULTS,
) -> NDArray[np.float32]:
    """Makes each click's part lead at the click, and a negative click's part trail.

    Where that is so already, nothing changes. Otherwise the part's logit is raised (or lowered) by its deficit at the
    click. The change fades with the distance from the click and with the unlikeness of the features.

    Args:
        logits: (K, h, w) float32, one stride-2 pixel for 2x2 pixels of the points' coordinates; changed in place.
        embedding: (D, h/2, w/2) float32 features, or ``None``: then only the distance counts.
        points: Clicks in pixels of the view; those outside are passed over.
        options: The thresholds.

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
        deficit = options.margin - margin if is_positive else options.margin + margin
        if deficit <= 0:
            continue
        reach = int(3 * options.reach)
        top, bottom = max(row - reach, 0), min(row + reach + 1, height)
        left, right = max(column - reach, 0), min(column + reach + 1, width)
        dy = np.arange(top, bottom, dtype=np.float32) - row
        dx = np.arange(left, right, dtype=np.float32) - column
        weight = np.exp((dy[:, None] ** 2 + dx[None, :] ** 2) / np.float32(-2 * options.reach**2))
        if embedding is not None:
            features = unit_features(embedding)
            cosine = likeness(features, feature_cell(features, point.cell, (height, width))).clip(0, 1) ** 2
            alike = cv2.resize(cosine, (width, height), interpolation=cv2.INTER_LINEAR)
            alike[row, column] = 1
            weight = weight * alike[top:bottom, left:right]
        logits[channel, top:bottom, left:right] += np.float32(deficit if is_positive else -deficit) * weight
    return logits
