"""A correction changes what it points at, and little else: the rest of a parse stays as it was.

This is the Progressive Merge of FocalClick (Chen et al., CVPR 2022; ClickSEG), which takes the piece of the change that
holds the click. There the photo has one object. Here all parts compete, so a change elsewhere is taken, too, where the
network clearly prefers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.inference.logits import best_channel
from ihp_backend.inference.prediction import Parse


@dataclass(frozen=True)
class ProgressiveMergeOptions:
    """Options of ``progressive_merge``, for changes that no click points at.

    Attributes:
        margin: They are made if the network prefers them by this logit margin, on average.
        least: Smaller ones, in stride-2 pixels, are noise along the edges.
        edge: The edge of a clicked part is kept this far, in stride-2 pixels, from what is made.
    """

    margin: float = 0.5
    least: int = 4
    edge: int = 2


_DEFAULTS = ProgressiveMergeOptions()


def progressive_merge(before: Parse, after: Parse, options: ProgressiveMergeOptions = _DEFAULTS) -> Parse:
    """Returns the parse after a correction, in which what the correction does not point at stays.

    The connected piece of the change that holds the click is taken. Another piece is taken only if it is large enough
    and the network prefers it by a margin. Elsewhere the edge of the clicked part stays exactly as it was: otherwise
    every click would move it a little, and what was right would get worse.

    Args:
        before: The parse before the newest clicks.
        after: The parse after them, of the same photo.
        options: The thresholds.
    """
    earlier = before.seen_from(after.view)
    was, now = before.best_from(after.view), best_channel(after.logits)
    changed = was != now
    asked, edges = np.zeros_like(changed), np.zeros_like(changed)
    places = []
    for click in after.clicks[len(before.clicks) :]:
        channel = after.channels.at(click.part, click.x, click.y)
        if channel is None:
            continue
        asked |= changed & ((now if click.is_positive else was) == channel)
        edges |= _edge(was == channel)
        places.append(after.view.cell(click.x, click.y))
    taken = np.zeros_like(changed)
    for where in (asked, changed & ~asked):
        taken |= _taken(after.logits, was, now, where, places if where is asked else (), options)
    kept = (changed & ~taken) | (edges & ~_dilated(taken, options.edge))
    return replace(after, logits=np.where(kept, earlier, after.logits), predicted=after.logits)


def _taken(
    logits: NDArray[np.float32],
    was: NDArray[np.intp],
    now: NDArray[np.intp],
    where: NDArray[np.bool_],
    places: Sequence[tuple[int, int]],
    options: ProgressiveMergeOptions,
) -> NDArray[np.bool_]:
    """The pieces (h, w) of a change that hold a click, or are large and preferred enough."""
    count, pieces = cv2.connectedComponents(where.astype(np.uint8), connectivity=4)
    rows, columns = np.nonzero(where)
    margin = logits[now[rows, columns], rows, columns] - logits[was[rows, columns], rows, columns]
    numbers = pieces[rows, columns]
    sizes = np.bincount(numbers, minlength=count)
    taken = (sizes >= options.least) & (np.bincount(numbers, margin, count) >= options.margin * sizes)
    for row, column in places:
        if 0 <= row < where.shape[0] and 0 <= column < where.shape[1]:
            taken[pieces[row, column]] = True
    taken[0] = False
    found: NDArray[np.bool_] = taken[pieces]
    return found


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The stride-2 pixels at both sides of a mask's edge."""
    return _dilated(mask, 1) & _dilated(~mask, 1)


def _dilated(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by + 1, 2 * by + 1))
    return cv2.dilate(mask.astype(np.uint8), brush) > 0
