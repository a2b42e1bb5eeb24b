"""Where to look: the box around the person that the clicks mean, and when to look closer to find them.

A first look at the whole photo finds the people. Somebody small in a large photo is hardly seen there: then a part of
the photo is looked at again. The box that comes out is the same from click to click as long as the clicks and masks
stay on one person, so that what was computed for it can be used again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import Box, box_of
from ihp_backend.inference.head_seeds import Place, apart, heads_of, innermost
from ihp_backend.inference.people import joined
from ihp_backend.inference.prediction import Parse

_MARGIN = 0.06
_NEAR = 0.12
"""A click that is farther from every figure than this share of the look's longer side starts a figure of its own."""
_NEAR_OF_FIGURE = 0.6
"""So does one that is farther than this share of the figure's own longer side."""
_LARGE = 0.4
"""A person who takes this share of a look's longer side is seen well enough."""
_PIECE = 0.25
"""A piece with less than this share of a figure's cells, at the figure's edge, belongs to it: a shoe, a hand."""
_LOST_SIDE = 1400
"""Where nobody is seen, so many pixels of the photo around the click are worked on."""
_LEAST_BODY = 0.1
"""A head to which less than this share of the largest body belongs is none."""
_STEPS = 24
"""Boxes end on a grid of about so many steps along their longer side."""


@dataclass(frozen=True)
class Figures:
    """The people that a look has found.

    Attributes:
        look: The parse, without clicks.
        heads: Their heads, in pixels of the photo.
        numbers: (h, w) number of the figure of each cell; 0 is nobody.
        boxes: The box of each figure, in pixels of the photo, by its number, the largest figure first.
    """

    look: Parse
    heads: Sequence[Place]
    numbers: NDArray[Any]
    boxes: Mapping[int, Box]

    @classmethod
    def of(cls, look: Parse) -> Figures:
        """Numbers the figures of a look; specks are nobody, and people who touch are told apart by their heads."""
        count, numbers, stats, _ = cv2.connectedComponentsWithStats(joined(look.figure()))
        sizes = stats[:, cv2.CC_STAT_AREA]
        kept = [i for i in range(1, count) if sizes[i] >= 0.02 * sizes[1:].max()]
        owner = np.zeros(count, np.int32)
        whole: list[int] = []
        for i in sorted(kept, key=lambda i: -sizes[i]):
            owner[i] = next((w for w in whole if sizes[i] < _PIECE * sizes[w] and _touches(stats[i], stats[w])), i)
            if owner[i] == i:
                whole.append(i)
        figures, heads = owner[numbers], heads_of(look)
        while True:
            cells = [(int(u // 2), int(v // 2)) for u, v in (look.view.into(x, y) for x, y in heads)]
            numbers = apart(figures, cells)
            sizes = np.bincount(numbers.ravel())
            bodies = [sizes[number] if (number := numbers[row, column]) else 0 for column, row in cells]
            if not bodies or min(bodies) >= _LEAST_BODY * max(bodies):
                break
            del heads[int(np.argmin(bodies))]
        boxes = {}
        for i in sorted(np.flatnonzero(sizes[1:]) + 1, key=lambda i: -sizes[i]):
            rows, columns = np.flatnonzero((numbers == i).any(1)), np.flatnonzero((numbers == i).any(0))
            left, top = look.view.out_of(2.0 * columns[0], 2.0 * rows[0])
            right, bottom = look.view.out_of(2.0 * columns[-1] + 2, 2.0 * rows[-1] + 2)
            boxes[i] = _cut(Box(int(left), int(top), int(right) + 1, int(bottom) + 1), look.height, look.width)
        return cls(look, heads, numbers, boxes)

    def at(self, x: float, y: float) -> int | None:
        """Returns the figure at or near a place (x, y) of the photo."""
        u, v = self.look.view.into(x, y)
        rows, columns = np.nonzero(self.numbers)
        if not rows.size:
            return None
        squared = (rows + 0.5 - v / 2) ** 2 + (columns + 0.5 - u / 2) ** 2
        best = int(squared.argmin())
        figure = int(self.numbers[rows[best], columns[best]])
        box, view = self.boxes[figure], self.look.view
        longer = max(box.width * view.width / view.box.width, box.height * view.height / view.box.height) / 2
        reach = max(3.0, min(_NEAR * max(self.numbers.shape), _NEAR_OF_FIGURE * longer))
        return figure if squared[best] <= reach**2 else None

    def middles(self) -> list[Click]:
        """Returns, for each figure, a click on its innermost place, the largest figure first."""
        clicks = []
        for figure in self.boxes:
            column, row = innermost(self.numbers == figure)
            clicks.append(Click(*self.look.view.out_of(2.0 * column + 1, 2.0 * row + 1), "", True))
        return clicks


@dataclass(frozen=True)
class Aim:
    """What a request points at, in one look.

    Attributes:
        figures: The figures that are meant; all of them where nothing points anywhere.
        places: Boxes of the positive clicks and of the accepted masks.
        is_lost: Something points at a place where nobody is seen.
    """

    figures: Sequence[Box]
    places: Sequence[Box]
    is_lost: bool

    @classmethod
    def of(
        cls, figures: Figures, clicks: Sequence[Click], accepted: Mapping[str, NDArray[np.bool_]], background: set[str]
    ) -> Aim:
        """Sorts the clicks and masks by figure.

        Args:
            figures: Who is there.
            clicks: Open clicks, in image pixels; negative ones and those on the background mean nobody.
            accepted: Accepted masks (H, W).
            background: Labels that mean the background.
        """
        height, width = figures.look.height, figures.look.width
        positive = [c for c in clicks if c.is_positive and c.part not in background]
        clicked = {c.part for c in clicks}
        places = [_around(c, height, width) for c in positive]
        meant = {figures.at(c.x, c.y) for c in positive}
        masks = {label: b for label, m in accepted.items() if label not in background and (b := box_of(m))}
        owners = {label: figures.at((b.left + b.right) / 2, (b.top + b.bottom) / 2) for label, b in masks.items()}
        # Masks on other people than the clicked ones do not widen the view.
        ours = [label for label in masks if not positive or label in clicked or owners[label] in meant]
        places += [masks[label] for label in ours]
        meant |= {owners[label] for label in ours}
        known = [figures.boxes[f] for f in sorted(f for f in meant if f is not None)]
        if not places:
            known = list(figures.boxes.values())
        return cls(known, places, bool(places) and not known)

    def look_closer(self, look: Parse) -> Box | None:
        """Returns the part of the photo to look at again; ``None`` where those who are meant are seen well enough."""
        seen = look.view.box
        if look.view.height * look.view.width >= seen.height * seen.width:
            return None  # every pixel has been seen
        around = _union([*self.places, *self.figures])
        if around is None:
            return None
        if self.is_lost:
            side = max(max(seen.height, seen.width) / 3, 1.5 * max(around.height, around.width))
        elif max(around.height, around.width) < _LARGE * max(seen.height, seen.width):
            side = 2.0 * max(around.height, around.width)
        else:
            return None
        closer = _square(around, side, look.height, look.width)
        return closer if closer.width * closer.height < 0.7 * seen.width * seen.height else None

    def fills(self, box: Box) -> bool:
        """Whether somebody fills a part of the photo from side to side, so that more of them may be outside."""
        figures = _union(self.figures)
        return figures is not None and max(figures.width / box.width, figures.height / box.height) > 0.95

    def box(self, height: int, width: int) -> Box:
        """Returns the part of the photo that the network should see.

        The figures that are meant, grown by a margin; clicks and masks beyond it widen it. Where nobody is seen, the
        surroundings of what points there, else the whole photo.
        """
        figures, around = _union(self.figures), _union(self.places)
        if figures is None and around is not None:
            return _square(around, max(_LOST_SIDE, 2.0 * max(around.height, around.width)), height, width)
        if figures is None:
            return Box(0, 0, width, height)
        box = _on_grid(figures.grown(_MARGIN, height, width), height, width, steps=_STEPS)
        beyond = [p for p in self.places if box.union(p) != box]
        if beyond:
            wider = _union([box, *(p.grown(0, height, width) for p in beyond)])
            assert wider is not None
            box = _on_grid(wider.grown(_MARGIN, height, width), height, width, steps=8)
        return box


def keep_unclicked(before: Parse, after: Parse, guided: NDArray[np.bool_]) -> Parse:
    """Gives the people at whom nobody has pointed yet back what was seen of them before.

    The network takes a person who stands beside a clicked one for background.

    Args:
        before: The parse of the same view without clicks and masks.
        after: The parse with them.
        guided: (h, w): cells of accepted masks; who has one is pointed at.
    """
    figures = Figures.of(before)
    pointed_at = {figures.at(c.x, c.y) for c in after.clicks} | set(figures.numbers[guided].tolist())
    others = np.isin(figures.numbers, [figure for figure in figures.boxes if figure not in pointed_at])
    return replace(after, logits=np.where(others, before.logits, after.logits)) if others.any() else after


def _union(boxes: Sequence[Box]) -> Box | None:
    union = boxes[0] if boxes else None
    for box in boxes[1:]:
        union = union.union(box) if union else box
    return union


def _square(around: Box, side: float, height: int, width: int) -> Box:
    """The square of about this side around the middle of a box, as far as the photo goes."""
    x, y = (around.left + around.right) / 2, (around.top + around.bottom) / 2
    box = Box(int(x - side / 2), int(y - side / 2), int(x + side / 2) + 1, int(y + side / 2) + 1)
    return _on_grid(box, height, width, steps=8)


def _cut(box: Box, height: int, width: int) -> Box:
    return Box(max(box.left, 0), max(box.top, 0), min(box.right, width), min(box.bottom, height))


def _on_grid(box: Box, height: int, width: int, *, steps: int) -> Box:
    """Moves the ends of a box outwards to a grid, a power of two wide: small changes leave it as it is."""
    step = 1 << max(0, int(np.log2(max(1.0, max(box.width, box.height) / steps))))
    snapped = Box(
        box.left // step * step, box.top // step * step, -(-box.right // step) * step, -(-box.bottom // step) * step
    )
    return _cut(snapped, height, width)


def _touches(piece: NDArray[Any], figure: NDArray[Any]) -> bool:
    """Whether the box (x, y, w, h, ...) of a piece lies mostly within a figure's, grown by a tenth."""
    x, y, w, h = (int(v) for v in figure[:4])
    margin = 0.1 * max(w, h)
    px, py, pw, ph = (int(v) for v in piece[:4])
    across = min(px + pw, x + w + margin) - max(px, x - margin)
    down = min(py + ph, y + h + margin) - max(py, y - margin)
    return bool(across > 0.5 * pw and down > 0.5 * ph)


def _around(click: Click, height: int, width: int) -> Box:
    row, column = click.pixel(height, width)
    return Box(column, row, column + 1, row + 1)
