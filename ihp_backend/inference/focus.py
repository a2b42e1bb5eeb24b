"""Where to look: the box around the person that the clicks mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import Box, box_of
from ihp_backend.inference.figures import joined
from ihp_backend.inference.parse import Parse

_MARGIN = 0.06
_NEAR = 0.12
"""A click that is farther from every figure than this share of the photo's longer side starts a figure of its own."""


def person_box(
    coarse: Parse,
    clicks: Sequence[Click],
    accepted: Mapping[str, NDArray[np.bool_]],
    height: int,
    width: int,
) -> Box:
    """Returns the part of the photo that the network should see.

    Args:
        coarse: A parse of the whole photo without clicks.
        clicks: Open clicks, in image pixels.
        accepted: Accepted masks (H, W).
        height: Height of the photo in pixels.
        width: Its width.

    Returns:
        The box of the figures that hold a click or an accepted mask, grown by a margin; of all figures without
        click and mask; the whole photo where nobody is seen.
    """
    whole = Box(0, 0, width, height)
    positive = [c for c in clicks if c.is_positive and coarse.channels.of(c.part) != (0,)]
    seen = coarse.figure()
    count, figures, stats, _ = cv2.connectedComponentsWithStats(joined(seen))
    sizes = stats[1:, cv2.CC_STAT_AREA]
    kept = {i + 1 for i, size in enumerate(sizes) if size >= 0.02 * sizes.max()} if count > 1 else set()
    scale_x, scale_y = width / seen.shape[1], height / seen.shape[0]

    def box_in_photo(figure: int) -> Box:
        x, y, w, h = (int(v) for v in stats[figure, :4])
        right, bottom = int((x + w) * scale_x) + 1, int((y + h) * scale_y) + 1
        return Box(int(x * scale_x), int(y * scale_y), min(width, right), min(height, bottom))

    meant: set[int] = set()
    stray = False
    for click in positive:
        nearest = _nearest(figures, kept, click.x / scale_x, click.y / scale_y)
        if nearest is None or nearest[1] > _NEAR * max(seen.shape):
            stray = True
        else:
            meant.add(nearest[0])
    boxes = [b for b in (box_of(mask) for mask in accepted.values()) if b is not None]
    for box in boxes:
        centre = ((box.left + box.right) / 2 / scale_x, (box.top + box.bottom) / 2 / scale_y)
        nearest = _nearest(figures, kept, *centre)
        if nearest is not None and nearest[1] <= _NEAR * max(seen.shape):
            meant.add(nearest[0])
    if stray and not meant:
        return whole
    boxes += [box_in_photo(f) for f in (meant if positive or boxes else kept)]
    boxes += [_around(click, height, width) for click in positive]
    if not boxes:
        return whole
    box = boxes[0]
    for other in boxes[1:]:
        box = box.union(other)
    return box.grown(_MARGIN, height, width)


def _around(click: Click, height: int, width: int) -> Box:
    row, column = click.pixel(height, width)
    return Box(column, row, column + 1, row + 1)


def _nearest(figures: NDArray[Any], kept: set[int], x: float, y: float) -> tuple[int, float] | None:
    """Returns the figure nearest to a place, and its distance, in pixels of the map of figures."""
    if not kept:
        return None
    rows, columns = np.nonzero(np.isin(figures, list(kept)))
    squared = (rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2
    best = int(squared.argmin())
    return int(figures[rows[best], columns[best]]), float(squared[best] ** 0.5)
