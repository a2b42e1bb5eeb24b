"""The simulated annotator of the evaluation: clicks each part once, then where the parse is most wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.parts import IGNORE, Schema
from ihp_backend.simulation.sampling import distance_inside

User = Literal["center", "sloppy", "human"]
USERS: tuple[User, ...] = get_args(User)
_AVOIDED = 5


class SimulatedAnnotator:
    """Clicks on one photo whose true labels are known.

    The ``center`` user clicks where the distance to the outside is greatest; the ``sloppy`` one anywhere where it is
    more than half of that; the ``human`` one anywhere, in proportion to it. Of the rules that Antonov et al. (RClicks,
    NeurIPS 2024) hold against 475,000 real clicks, the last is the closest on each of their five data sets; only their
    network, which needs its weights, is closer.
    """

    def __init__(self, labels: NDArray[np.uint8], schema: Schema, *, user: User = "center", seed: int = 0) -> None:
        """Takes the truth: ``labels`` is (H, W) uint8 ids, 255 ignored."""
        self.labels, self.schema, self.user = labels, schema, user
        self._rng = np.random.default_rng(seed)
        self._free = np.ones(labels.shape, bool)

    @property
    def classes(self) -> list[int]:
        """Ids of the parts present, the background not counted."""
        return [int(i) for i in np.unique(self.labels) if i not in (0, IGNORE)]

    def first_clicks(self, parts: Iterable[int] | None = None) -> list[Click]:
        """One click for each of some parts; by default, for each part present."""
        clicks = [self._click(self.labels == part) for part in (self.classes if parts is None else parts)]
        return [c for c in clicks if c is not None]

    def next_click(self, predicted: NDArray[np.uint8]) -> Click | None:
        """Clicks into the largest error, named with the true class there.

        Discs of radius 5 around earlier clicks are left out.

        Args:
            predicted: (H, W) uint8 ids.

        Returns:
            The click, or ``None`` where no error is left to click.
        """
        return self._click((predicted != self.labels) & (self.labels != IGNORE) & self._free)

    def _click(self, where: NDArray[np.bool_]) -> Click | None:
        distance = distance_inside(where)
        peak = float(distance.max())
        if peak <= 0:
            return None
        if self.user == "center":
            row, column = np.unravel_index(int(distance.argmax()), distance.shape)
        elif self.user == "sloppy":
            rows, columns = np.nonzero(distance > peak / 2)
            pick = int(self._rng.integers(len(rows)))
            row, column = rows[pick], columns[pick]
        else:
            rows, columns = np.nonzero(distance)
            weights = distance[rows, columns].astype(np.float64)
            pick = int(self._rng.choice(len(rows), p=weights / weights.sum()))
            row, column = rows[pick], columns[pick]
        free = self._free.view(np.uint8)
        cv2.circle(free, (int(column), int(row)), _AVOIDED, 0, thickness=-1)
        part = self.schema.names[int(self.labels[row, column])]
        return Click(float(column) + 0.5, float(row) + 0.5, part)
