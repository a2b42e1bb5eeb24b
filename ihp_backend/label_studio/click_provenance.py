"""The clicks behind a mask, kept in its region. Accepting a mask takes its keypoints away; what they said still counts.

Label Studio keeps a region's ``meta`` in drafts and annotations as it came, so every replica, and training, can read
the clicks there. A mask that somebody has changed by hand is not what its clicks made: then they count no more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ihp_backend.annotation.masks import MOST_CLICKS, PackedMask, TimedClick
from ihp_backend.clicks import Click
from ihp_backend.geometry import digest


def to_meta(clicks: Sequence[TimedClick], mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Returns what a region's ``meta`` holds of its clicks and of the mask (H, W) that they made.

    Without clicks, it is what other clicks have left of a prediction's mask.
    """
    return {
        "ihp": {
            "clicks": [[t.click.x, t.click.y, int(t.click.is_positive), t.at] for t in clicks],
            "mask": digest(mask).hex(),
        }
    }


def is_untouched(meta: object, mask: PackedMask) -> bool:
    """Whether a region's ``meta`` says that its mask comes from a prediction: no click made it, and it is as it was."""
    own = meta.get("ihp") if isinstance(meta, Mapping) else None
    return isinstance(own, Mapping) and own.get("clicks") == [] and own.get("mask") == mask.digest.hex()


def from_meta(meta: object, label: str, mask: PackedMask) -> tuple[TimedClick, ...]:
    """Reads the clicks from a region's ``meta``; none if they are not there, not readable, or made another mask."""
    own = meta.get("ihp") if isinstance(meta, Mapping) else None
    if not isinstance(own, Mapping) or not isinstance(own.get("clicks"), list) or own.get("mask") != mask.digest.hex():
        return ()
    height, width = mask.shape
    clicks = []
    for record in own["clicks"][-MOST_CLICKS:]:
        if not (isinstance(record, list) and len(record) == 4 and all(isinstance(v, int | float) for v in record)):
            return ()
        try:
            x, y, is_positive, at = (float(v) for v in record)
        except OverflowError:  # an integer of 400 digits
            return ()
        if not (0 <= x <= width and 0 <= y <= height and math.isfinite(at)):
            return ()
        clicks.append(TimedClick(Click(x, y, label, bool(is_positive)), int(at)))
    return tuple(clicks)
