"""A mask that somebody has accepted changes only where it is clicked on.

This is the Progressive Merge of FocalClick (Chen et al., CVPR 2022) on one mask at the photo's size, perhaps painted by
hand. ``progressive_merge`` works on the logits of all parts in stride-2 pixels, so the two share no code.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import box_of

_RIM = 0.006
"""Changes thinner than this share of the mask's longer side are noise along its edge."""


def correct_locally(before: NDArray[np.bool_], after: NDArray[np.bool_], clicks: Sequence[Click]) -> NDArray[np.bool_]:
    """Makes those changes that a click points at.

    A change is a connected piece of the difference, cut off where it is thinner than the noise along the edge.

    Args:
        before: (H, W), the accepted mask.
        after: (H, W), the mask that the network would have now.
        clicks: The corrections, in image pixels.

    Returns:
        (H, W): ``after`` in the changes that hold a click, and at the clicks; ``before`` elsewhere.
    """
    box = box_of(before | after)
    if box is None:
        return before.copy()
    margin = 2
    rim = max(1, round(_RIM * max(box.width, box.height)))
    top, left = max(box.top - margin, 0), max(box.left - margin, 0)
    window = slice(top, box.bottom + margin), slice(left, box.right + margin)
    changed = (before[window] ^ after[window]).astype(np.uint8)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim + 1, 2 * rim + 1))
    _, pieces = cv2.connectedComponents(cv2.morphologyEx(changed, cv2.MORPH_OPEN, brush))
    chosen: set[int] = set()
    here = np.zeros(changed.shape, np.uint8)
    for click in clicks:
        row, column = click.pixel(*before.shape)
        row, column = row - top, column - left
        if not (0 <= row < changed.shape[0] and 0 <= column < changed.shape[1]):
            continue
        near = pieces[max(row - rim, 0) : row + rim + 1, max(column - rim, 0) : column + rim + 1]
        if changed[row, column]:
            chosen |= set(np.unique(near).tolist())
        cv2.circle(here, (column, row), rim, 1, thickness=-1)
    taken = np.isin(pieces, sorted(chosen - {0})).astype(np.uint8)
    taken = np.maximum(cv2.dilate(taken, brush), here) * changed
    out = before.copy()
    out[window][taken > 0] = after[window][taken > 0]
    return out
