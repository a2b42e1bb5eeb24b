"""A correction changes what it asks for, and little else: the rest of a parse stays as it was."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.inference.parse import Parse

_DECISIVE = 1.0
"""Changes that a click does not ask for are made only if the network prefers them by this much, in logits."""


def take_over(before: Parse, after: Parse) -> Parse:
    """Returns the parse after a correction, in which only what the correction asks for has changed.

    A click on a part asks for more of this part; a negative one for less. Everything else, such as edges of other
    parts far away, changes only where the network is decided: else every click would make all edges wobble, and masks
    that were right would get worse.

    Args:
        before: The parse before the newest clicks.
        after: The parse after them, of the same photo.
    """
    known = before.seen_from(after.view)
    was, now = known.argmax(0), after.logits.argmax(0)
    changed = was != now
    asked = np.zeros_like(changed)
    for click in after.clicks[len(before.clicks) :]:
        channel = after.channels.at(click.part, click.x, click.y)
        if channel is not None:
            asked |= (now if click.is_positive else was) == channel
    unasked = changed & ~asked
    taken = (changed & asked) | (unasked & _is_decided(after.logits, was, now, unasked))
    return replace(after, logits=np.where(taken, after.logits, known))


def _is_decided(
    logits: NDArray[np.float32], was: NDArray[np.intp], now: NDArray[np.intp], where: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The pieces (h, w) of a change on which the new part leads the old one clearly, on average."""
    count, pieces = cv2.connectedComponents(where.astype(np.uint8), connectivity=4)
    rows, columns = np.nonzero(where)
    lead = logits[now[rows, columns], rows, columns] - logits[was[rows, columns], rows, columns]
    numbers = pieces[rows, columns]
    sizes = np.bincount(numbers, minlength=count)
    decided = np.bincount(numbers, lead, count) > _DECISIVE * sizes
    found: NDArray[np.bool_] = decided[pieces]
    return found
