"""The clicks behind a mask. Accepting a mask takes its keypoints away; what they said is worth keeping.

A mask that somebody has changed by hand since is not what those clicks made: then they count no more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from time import time

import numpy as np
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import digest

_REGIONS = 20_000
_CLICKS = 40
"""Of one region, at most so many clicks are kept, the newest."""


@dataclass(frozen=True)
class TimedClick:
    """A click and when it was first seen, in seconds since 1970."""

    click: Click
    at: float


class ClickMemory:
    """Remembers by a region's id which clicks made its mask. Bounded; may be shared between threads."""

    def __init__(self) -> None:
        self._regions: OrderedDict[str, tuple[bytes, tuple[TimedClick, ...]]] = OrderedDict()
        self._lock = Lock()

    def remember(
        self, region: str, mask: NDArray[np.bool_], clicks: Sequence[Click], earlier: Sequence[TimedClick] = ()
    ) -> None:
        """Keeps the clicks of an answered region, in place of what was kept of it.

        Args:
            region: Its id.
            mask: (H, W), as it was answered.
            clicks: The open clicks that it answers.
            earlier: Those that had made it before.
        """
        now = time()
        known = {timed.click for timed in earlier}
        made_by = (*earlier, *(TimedClick(click, now) for click in clicks if click not in known))[-_CLICKS:]
        with self._lock:
            self._regions[region] = digest(mask), made_by
            self._regions.move_to_end(region)
            while len(self._regions) > _REGIONS:
                self._regions.popitem(last=False)

    def behind(self, region: str, mask: NDArray[np.bool_]) -> tuple[TimedClick, ...]:
        """Returns the clicks that made a mask; none if it is not the mask that was answered."""
        with self._lock:
            known = self._regions.get(region)
        return known[1] if known is not None and known[0] == digest(mask) else ()
