"""The region of interest: the part of the photo that the network sees.

It is the box around the person who is meant. The coarse pass over the whole photo finds the people; where they are
small in a large photo, a part of it is passed over again (zoom-in). The region of interest stays the same from click to
click as long as clicks and masks stay on one person, so that the features computed for it serve the next click, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import Box, box_of
from ihp_backend.inference.people import People

_MARGIN = 0.06
"""The region of interest is larger than the people by this share of their longer side, at each side."""
_LARGE = 0.4
"""People who take this share of a view's longer side are seen well enough: no zoom-in."""
_NO_TARGET_SIDE = 1400
"""Side in pixels of the region of interest around a click where nobody is seen."""
_STEPS, _WIDER_STEPS = 24, 8
"""The region of interest ends on a grid of about so many steps along its longer side."""


@dataclass(frozen=True)
class Target:
    """Who and what the prompts of a request point at.

    Attributes:
        among: All people whom the coarse pass has seen.
        people: Boxes of those who are meant, in pixels of the photo; of all if there is no prompt.
        places: Boxes of the positive clicks and of the mask prompts, in pixels of the photo.
        is_missing: The prompts point at a place where nobody is seen.
    """

    among: People
    people: Sequence[Box]
    places: Sequence[Box]
    is_missing: bool

    @classmethod
    def of(
        cls, people: People, clicks: Sequence[Click], masks: Mapping[str, NDArray[np.bool_]], background: set[str]
    ) -> Target:
        """Assigns the prompts to people.

        Args:
            people: Who is in the photo.
            clicks: In image pixels. Negative ones and those on the background mean nobody.
            masks: Mask prompts, (H, W) bool.
            background: Labels that mean the background.
        """
        height, width = people.coarse.height, people.coarse.width
        positive = [c for c in clicks if c.is_positive and c.part not in background]
        clicked = {c.part for c in clicks}
        places = [_pixel_of(c, height, width) for c in positive]
        meant = {people.at(c.x, c.y) for c in positive}
        boxes = {label: b for label, m in masks.items() if label not in background and (b := box_of(m))}
        owners = {label: people.at((b.left + b.right) / 2, (b.top + b.bottom) / 2) for label, b in boxes.items()}
        # Masks on other people than the clicked ones do not widen the region.
        own = [label for label in boxes if not positive or label in clicked or owners[label] in meant]
        places += [boxes[label] for label in own]
        meant |= {owners[label] for label in own}
        found = [people.boxes[person] for person in sorted(p for p in meant if p is not None)]
        if not places:
            found = list(people.boxes.values())
        return cls(people, found, places, bool(places) and not found)

    def zoom_in(self) -> Box | None:
        """Returns the part of the photo to pass over again; ``None`` if the target is seen well enough."""
        coarse = self.among.coarse
        seen = coarse.view.box
        if coarse.view.height * coarse.view.width >= seen.height * seen.width:
            return None  # every pixel has been seen
        around = _union([*self.places, *self.people])
        if around is None:
            return None
        if self.is_missing:
            side = max(max(seen.height, seen.width) / 3, 1.5 * max(around.height, around.width))
        elif max(around.height, around.width) < _LARGE * max(seen.height, seen.width):
            side = 2.0 * max(around.height, around.width)
        else:
            return None
        closer = _square(around, side, coarse.height, coarse.width)
        return closer if closer.width * closer.height < 0.7 * seen.width * seen.height else None

    def fills(self, box: Box) -> bool:
        """Whether somebody fills a part of the photo from side to side, so that more of them may be outside."""
        people = _union(self.people)
        return people is not None and max(people.width / box.width, people.height / box.height) > 0.95

    def region_of_interest(self) -> Box:
        """Returns the part of the photo that the network should see.

        The people who are meant, with a margin; prompts outside of it widen it. Where nobody is seen, the
        surroundings of the prompts. Without people and prompts, the whole photo.
        """
        height, width = self.among.coarse.height, self.among.coarse.width
        people, around = _union(self.people), _union(self.places)
        if people is None and around is not None:
            return _square(around, max(_NO_TARGET_SIDE, 2.0 * max(around.height, around.width)), height, width)
        if people is None:
            return Box(0, 0, width, height)
        box = _on_grid(people.grown(_MARGIN, height, width), height, width, steps=_STEPS)
        outside = [p for p in self.places if box.union(p) != box]
        if outside:
            wider = _union([box, *(p.grown(0, height, width) for p in outside)])
            assert wider is not None
            box = _on_grid(wider.grown(_MARGIN, height, width), height, width, steps=_WIDER_STEPS)
        return box


def _union(boxes: Sequence[Box]) -> Box | None:
    union = boxes[0] if boxes else None
    for box in boxes[1:]:
        union = union.union(box) if union else box
    return union


def _square(around: Box, side: float, height: int, width: int) -> Box:
    """The square of about this side around the middle of a box, as far as the photo goes."""
    x, y = (around.left + around.right) / 2, (around.top + around.bottom) / 2
    box = Box(int(x - side / 2), int(y - side / 2), int(x + side / 2) + 1, int(y + side / 2) + 1)
    return _on_grid(box, height, width, steps=_WIDER_STEPS)


def _cut(box: Box, height: int, width: int) -> Box:
    return Box(max(box.left, 0), max(box.top, 0), min(box.right, width), min(box.bottom, height))


def _on_grid(box: Box, height: int, width: int, *, steps: int) -> Box:
    """Moves the ends of a box outwards to a grid, a power of two wide: small changes leave it as it is."""
    step = 1 << max(0, int(np.log2(max(1.0, max(box.width, box.height) / steps))))
    snapped = Box(
        box.left // step * step, box.top // step * step, -(-box.right // step) * step, -(-box.bottom // step) * step
    )
    return _cut(snapped, height, width)


def _pixel_of(click: Click, height: int, width: int) -> Box:
    row, column = click.pixel(height, width)
    return Box(column, row, column + 1, row + 1)
