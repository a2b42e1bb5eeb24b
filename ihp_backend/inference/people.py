"""Who is in the photo: an instance map of the people that a coarse pass has seen.

A person is a connected piece of what is not background. People who touch are told apart by their heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import OUTPUT_STRIDE, Box, View, box_of
from ihp_backend.inference.postprocess.split_people import (
    DEFAULTS,
    Place,
    SplitPeopleOptions,
    find_heads,
    innermost,
    split_by_heads,
)
from ihp_backend.inference.prediction import Parse

_GAP = 0.02
"""Gaps up to this share of the longer side are closed."""
_NEAR = 0.12
"""A place farther from every person than this share of the view's longer side is nobody's."""
_NEAR_OF_PERSON = 0.6
"""So is a place farther from the nearest person than this share of that person's own longer side."""
_PIECE = 0.25
"""A piece smaller than this share of a person, at the person's edge, belongs to them: a shoe, a hand."""
_LEAST_PERSON = 0.02
"""A piece smaller than this share of the largest one is nobody."""
_LOOKED_AT = 24
"""Of a mask, about so many rows or columns are looked at to find whom it lies on."""
_LEAST_ON_OTHERS = 0.05
"""Less than this share of a mask on somebody else is a border that is not exact."""


def close_gaps(mask: NDArray[np.bool_]) -> NDArray[Any]:
    """Closes the small gaps of a mask (h, w); returns uint8, 0 and 1, ready for connected components."""
    size = max(3, round(_GAP * max(mask.shape)))
    pixels = mask.astype(np.uint8)
    closed = cv2.morphologyEx(pixels, cv2.MORPH_CLOSE, np.ones((size, size), np.uint8))
    return cv2.max(closed, pixels)  # closing with an even kernel moves the edge


@dataclass(frozen=True)
class People:
    """The people that a coarse pass has found.

    Attributes:
        coarse: The parse of the coarse pass, without clicks.
        heads: Their heads, (x, y) in pixels of the photo.
        instance_map: (h, w) int, the id of the person at each stride-2 pixel of the coarse pass; 0 is nobody.
        boxes: The box of each person, in pixels of the photo, by id, the largest person first.
    """

    coarse: Parse
    heads: Sequence[Place]
    instance_map: NDArray[Any]
    boxes: Mapping[int, Box]

    @classmethod
    def of(cls, coarse: Parse, split: SplitPeopleOptions | None = DEFAULTS) -> People:
        """Tells the people of a coarse pass apart. Pieces much smaller than the largest one are nobody.

        Args:
            coarse: The parse of the coarse pass.
            split: How people who touch are told apart; ``None``: they are one.
        """
        options = split or DEFAULTS
        bodies, heads = _connected_people(coarse), find_heads(coarse, options) if split else []
        while True:
            places = [coarse.view.cell(x, y) for x, y in heads]
            instance_map = split_by_heads(bodies, [(column, row) for row, column in places], options)
            sizes = np.bincount(instance_map.ravel())
            of_heads = [sizes[person] if (person := instance_map[place]) else 0 for place in places]
            if not of_heads or min(of_heads) >= options.least_body * max(of_heads):
                break
            del heads[int(np.argmin(of_heads))]
        boxes = {}
        for i in sorted(np.flatnonzero(sizes[1:]) + 1, key=lambda i: -sizes[i]):
            found = box_of(instance_map == i)
            assert found is not None
            left, top = coarse.view.out_of_grid(found.left, found.top)
            right, bottom = coarse.view.out_of_grid(found.right, found.bottom)
            boxes[i] = Box(
                max(int(left), 0),
                max(int(top), 0),
                min(int(right) + 1, coarse.width),
                min(int(bottom) + 1, coarse.height),
            )
        return cls(coarse, heads, instance_map, boxes)

    def owners(self, view: View) -> NDArray[Any]:
        """Returns the id of the person at or near each stride-2 pixel of a view, (h, w); 0 is nobody."""
        h, w = view.grid
        if not self.boxes:
            return np.zeros((h, w), np.int32)
        seen = self.instance_map > 0
        away, numbers = cv2.distanceTransformWithLabels(
            np.logical_not(seen).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE, labelType=cv2.DIST_LABEL_PIXEL
        )
        person_of: NDArray[Any] = np.zeros(int(numbers.max()) + 1, np.int32)
        person_of[numbers[seen]] = self.instance_map[seen]
        nearest, reach = person_of[numbers], np.zeros(int(self.instance_map.max()) + 1)
        for person in self.boxes:
            reach[person] = self._reach(person)
        nearest[away > reach[nearest]] = 0
        places = [self.coarse.view.into_grid(*view.out_of_grid(i + 0.5, i + 0.5)) for i in range(max(h, w))]
        columns, rows = (np.floor(along).astype(int) for along in np.array(places).T)
        columns, rows = columns[:w], rows[:h]
        inside = np.ix_((rows >= 0) & (rows < len(nearest)), (columns >= 0) & (columns < nearest.shape[1]))
        found: NDArray[Any] = np.zeros((h, w), np.int32)
        found[inside] = nearest[np.ix_(rows[inside[0].ravel()], columns[inside[1].ravel()])]
        return found

    def at(self, x: float, y: float) -> int | None:
        """Returns the id of the person at or near a place (x, y) of the photo; ``None`` is nobody."""
        column, row = self.coarse.view.into_grid(x, y)
        rows, columns = np.nonzero(self.instance_map)
        if not rows.size:
            return None
        squared = (rows + 0.5 - row) ** 2 + (columns + 0.5 - column) ** 2
        nearest = int(squared.argmin())
        person = int(self.instance_map[rows[nearest], columns[nearest]])
        return person if squared[nearest] <= self._reach(person) ** 2 else None

    def _reach(self, person: int) -> float:
        """How far from a person a place may be to be theirs, in stride-2 pixels of the coarse pass."""
        box, view = self.boxes[person], self.coarse.view
        longer = max(box.width * view.width / view.box.width, box.height * view.height / view.box.height)
        longer /= OUTPUT_STRIDE
        return max(3.0, min(_NEAR * max(self.instance_map.shape), _NEAR_OF_PERSON * longer))

    def under(self, box: Box, inside: NDArray[np.bool_]) -> int | None:
        """Returns the id of the person on whom most of a mask lies; ``None`` if it lies on nobody.

        Args:
            box: What holds all of the mask, in pixels of the photo.
            inside: The mask there, (h, w).
        """
        step = max(1, min(inside.shape) // _LOOKED_AT)
        rows, columns = (step * found for found in np.nonzero(inside[::step, ::step]))
        x, y = self.coarse.view.into_grid(columns + 0.5 + box.left, rows + 0.5 + box.top)  # type: ignore[arg-type]
        row, column = (np.floor(along).astype(int) for along in (y, x))
        h, w = self.instance_map.shape
        is_seen = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        shares = np.bincount(self.instance_map[row[is_seen], column[is_seen]], minlength=1)
        shares[0] = 0
        return int(shares.argmax()) if shares.any() else None

    def on_same_person(self, earlier: Sequence[Click], clicks: Sequence[Click]) -> list[Click]:
        """Leaves out earlier clicks on other people than those whom the clicks mean."""
        if not earlier:
            return []
        meant = {self.at(c.x, c.y) for c in clicks if c.is_positive} or {self.at(c.x, c.y) for c in clicks}
        return [c for c in earlier if None in meant or self.at(c.x, c.y) in {*meant, None}]

    def on_others(self, mask: NDArray[np.bool_], clicks: Sequence[Click]) -> NDArray[np.bool_]:
        """Returns what of a mask (H, W) is on other people than those whom the clicks mean."""
        meant = {self.at(c.x, c.y) for c in clicks if c.is_positive}
        others = np.isin(self.instance_map, [person for person in self.boxes if person not in meant])
        box, found = self.coarse.view.box, mask.copy()  # whoever is outside of the coarse pass is somebody else, too
        found[box.slices] &= cv2.resize(others.astype(np.uint8), (box.width, box.height)) > 0
        is_known = meant and None not in meant
        return found if is_known and found.sum() >= _LEAST_ON_OTHERS * mask.sum() else np.zeros_like(mask)

    def centres(self) -> list[Click]:
        """Returns a click for each person, at the pixel farthest from their outline; the largest person first."""
        clicks = []
        for person in self.boxes:
            column, row = innermost(self.instance_map == person)
            clicks.append(Click(*self.coarse.view.out_of_grid(column + 0.5, row + 0.5), "", True))
        return clicks


def _connected_people(coarse: Parse) -> NDArray[Any]:
    """Numbers the connected people, (h, w) int; a small piece beside somebody large has that person's number."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(close_gaps(coarse.foreground()))
    sizes = stats[:, cv2.CC_STAT_AREA]
    kept = [i for i in range(1, count) if sizes[i] >= _LEAST_PERSON * sizes[1:].max()]
    owner = np.zeros(count, np.int32)
    whole: list[int] = []
    for i in sorted(kept, key=lambda i: -sizes[i]):
        owner[i] = next((w for w in whole if sizes[i] < _PIECE * sizes[w] and _touches(stats[i], stats[w])), i)
        if owner[i] == i:
            whole.append(i)
    bodies: NDArray[Any] = owner[pieces]
    return bodies


def _touches(piece: NDArray[Any], person: NDArray[Any]) -> bool:
    """Whether the box (x, y, w, h, ...) of a piece lies mostly within a person's, grown by a tenth."""
    x, y, w, h = (int(v) for v in person[:4])
    margin = 0.1 * max(w, h)
    px, py, pw, ph = (int(v) for v in piece[:4])
    across = min(px + pw, x + w + margin) - max(px, x - margin)
    down = min(py + ph, y + h + margin) - max(py, y - margin)
    return bool(across > 0.5 * pw and down > 0.5 * ph)
