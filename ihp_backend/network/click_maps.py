"""Clicks become semantic-aware localization maps: one channel a part, one blob a click.

The one implementation that serving, training and evaluation share. The Gaussian follows IOG (Zhang et al.,
CVPR 2020), the disk RITM (Sofiiuk et al., 2021); several clicks of a part merge by maximum. A negative click
("not this part here") is a blob of -1 in its part's channel, which says both where and which.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ihp_backend.geometry import OUTPUT_STRIDE

MapKind = Literal["gaussian", "disk"]


class Point(NamedTuple):
    """A click as the network sees it: continuous (x, y) in pixels of the view, and the channel it belongs to."""

    x: float
    y: float
    channel: int
    is_positive: bool = True

    @property
    def cell(self) -> tuple[int, int]:
        """(row, column) of the stride-2 pixel that the click lies in; it may be outside the grid."""
        return math.floor(self.y / OUTPUT_STRIDE), math.floor(self.x / OUTPUT_STRIDE)


def localization_maps(
    points: Sequence[Point],
    channels: int,
    height: int,
    width: int,
    *,
    kind: MapKind = "gaussian",
    size: float = 10.0,
) -> NDArray[np.float32]:
    """Draws clicks as maps.

    Args:
        points: Clicks; those outside the image mark only what of their blob lies inside.
        channels: Number of channels, one a part, open-class channels included.
        height: Height in pixels.
        width: Width in pixels.
        kind: ``gaussian``, exp(-4 ln2 d^2 / size^2) at distance d, or ``disk``, 1 within size / 2.
        size: Full width at half maximum of the Gaussian, or diameter of the disk, in pixels.

    Returns:
        (channels, height, width) float32 in [-1, 1].
    """
    # Channels last in memory, as the network wants it.
    maps = np.zeros((height, width, channels), np.float32).transpose(2, 0, 1)
    reach = 1.6 * size if kind == "gaussian" else size / 2
    for positive in (True, False):  # negative clicks last: they win where they overlap
        for x, y, channel, is_positive in points:
            if is_positive is not positive:
                continue
            left, right = max(math.floor(x - reach), 0), min(math.ceil(x + reach) + 1, width)
            top, bottom = max(math.floor(y - reach), 0), min(math.ceil(y + reach) + 1, height)
            if left >= right or top >= bottom:
                continue
            dx = np.arange(left, right, dtype=np.float32) + np.float32(0.5 - x)
            dy = np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - y)
            if kind == "gaussian":
                fall = -4 * math.log(2) / size**2
                blob = np.exp(fall * dy**2)[:, None] * np.exp(fall * dx**2)[None, :]
            else:
                blob = (dy[:, None] ** 2 + dx[None, :] ** 2 <= (size / 2) ** 2).astype(np.float32)
            place = maps[channel, top:bottom, left:right]
            if positive:
                np.maximum(place, blob, out=place)
            else:
                place -= blob
                np.maximum(place, -1, out=place)
    return maps
