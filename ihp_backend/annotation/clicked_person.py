"""Whose a click is, where each mask says whose it is: the number that a new mask of theirs gets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ihp_backend.annotation.masks import AcceptedMask
from ihp_backend.clicks import Click
from ihp_backend.geometry import Box


class Instances(Protocol):
    """The people in a photo, by ids that hold for one request only."""

    def at(self, x: float, y: float) -> int | None:
        """Returns the id of the person at or near a place of the photo; ``None`` is nobody."""

    def under(self, box: Box, inside: NDArray[np.bool_]) -> int | None:
        """Returns the id of the person whom most of a mask, (h, w) in a box of the photo, lies on."""


def clicked_person(masks: Sequence[AcceptedMask], clicks: Sequence[Click], people: Instances) -> int:
    """Returns the number, 1, 2 ..., of the person whom the newest positive click means, or the newest negative one.

    It is the one whose masks lie on that person, most of them if several do; else that of a mask which the click lies
    in. Somebody without such masks has the next number that is free.

    Args:
        masks: The masks that are there; those that do not say whose they are have no say.
        clicks: In image pixels, the newest last; at least one.
        people: Who is in the photo.
    """
    click = ([c for c in clicks if c.is_positive] or list(clicks))[-1]
    told = [(mask, mask.person) for mask in masks if mask.person is not None]
    pixels: Counter[int] = Counter()
    if (meant := people.at(click.x, click.y)) is not None:
        for mask, person in told:
            packed = mask.packed
            inside = packed.inside()
            if inside.any() and people.under(packed.box, inside) == meant:
                pixels[person] += int(inside.sum())
    if pixels:
        return pixels.most_common(1)[0][0]
    around = [person for mask, person in told if mask.holds(click)]
    return around[-1] if around else max((person for _, person in told), default=0) + 1
