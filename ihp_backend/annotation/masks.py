"""A mask before the annotator, and the clicks that made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ihp_backend.clicks import Click

MOST_CLICKS = 40
"""Of one region, at most so many clicks are kept, the newest."""
_SAME = 0.5
"""Of two answers of one label that share so much of the smaller one, the newer takes the other one's place."""


@dataclass(frozen=True)
class TimedClick:
    """A click and when it was first seen, in milliseconds since 1970."""

    click: Click
    at: int


def with_new(known: Sequence[TimedClick], clicks: Sequence[Click], now: int) -> tuple[TimedClick, ...]:
    """Returns the clicks that were known, then those that are new."""
    old = {timed.click for timed in known}
    return (*known, *(TimedClick(click, now) for click in clicks if click not in old))[-MOST_CLICKS:]


@dataclass(frozen=True)
class AcceptedMask:
    """A mask that the annotator has accepted or drawn.

    Attributes:
        id: The region's id.
        label: Its label.
        mask: (H, W) bool.
        from_prediction: It comes from a prediction, and nobody has touched it.
        clicks: The clicks that made it, if they are known and nobody has changed it since.
        score: What was expected of it when it was predicted, 0 to 1; ``None``: not known.
    """

    id: str
    label: str
    mask: NDArray[np.bool_]
    from_prediction: bool = False
    clicks: tuple[TimedClick, ...] = ()
    score: float | None = None


def are_same(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether two masks of one label mean the same thing."""
    return bool((one & other).sum() >= max(1, _SAME * min(one.sum(), other.sum())))
