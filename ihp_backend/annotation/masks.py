"""A mask before the annotator, and the clicks that made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import Box, box_of, packed_digest

MOST_CLICKS = 40
"""Of one region, at most so many clicks are kept, the newest."""
_SAME = 0.5
"""Two answers of one label are the same mask if they share this part of the smaller one: the newer one stays."""


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
class PackedMask:
    """A mask in an eighth of its memory, or less: a draft may have hundreds.

    Attributes:
        shape: Height and width of the photo.
        box: What holds all of it.
        bits: Eight pixels of the box in a byte.
    """

    shape: tuple[int, int]
    box: Box
    bits: NDArray[np.uint8]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> PackedMask:
        """Packs a mask (H, W)."""
        box = box_of(mask) or Box(0, 0, 0, 0)
        return cls((mask.shape[0], mask.shape[1]), box, np.packbits(mask[box.slices]))

    @classmethod
    def union(cls, masks: Sequence[PackedMask]) -> PackedMask:
        """Puts masks of one shape together, at least one."""
        if len(masks) == 1:
            return masks[0]
        pixels = masks[0].unpacked()
        for mask in masks[1:]:
            pixels[mask.box.slices] |= mask.inside()
        return cls.of(pixels)

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is in it."""
        return self.box.height == 0

    @property
    def digest(self) -> bytes:
        """``geometry.digest`` of the mask."""
        return packed_digest(self.bits.tobytes(), None if self.is_empty else self.box, self.shape)

    def inside(self) -> NDArray[np.bool_]:
        """The box's pixels, (h, w)."""
        size = self.box.height * self.box.width
        return np.unpackbits(self.bits, count=size).reshape(self.box.height, self.box.width).view(np.bool_)

    def unpacked(self) -> NDArray[np.bool_]:
        """The mask, (H, W)."""
        mask = np.zeros(self.shape, np.bool_)
        mask[self.box.slices] = self.inside()
        return mask

    def holds(self, row: int, column: int) -> bool:
        """Whether a pixel is in it."""
        box = self.box
        if not (box.top <= row < box.bottom and box.left <= column < box.right):
            return False
        at = (row - box.top) * box.width + column - box.left
        return bool(self.bits[at >> 3] & (0x80 >> (at & 7)))


@dataclass(frozen=True)
class AcceptedMask:
    """A mask that the annotator has accepted or drawn.

    Attributes:
        id: The region's id.
        label: Its label.
        pixels: (H, W) bool, or packed.
        from_prediction: It comes from a prediction, and nobody has touched it.
        clicks: The clicks that made it, if they are known and nobody has changed it since.
        score: What was expected of it when it was predicted, 0 to 1; ``None``: not known.
        is_suggested: It may be a suggestion that nobody has accepted yet: Label Studio shows those of its newest answer
            only, so an answer that lacks it would take it off the screen.
        person: Whose it is, 1, 2 ...; ``None``: not known.
        pieces: As how many regions it may be there: an outline has one for each piece of the mask.
        is_box: It is the inside of a box that was drawn around a part. Boxes of parts lie over each other, so nothing
            is kept off it, and no pixel is known to be in it.
    """

    id: str
    label: str
    pixels: NDArray[np.bool_] | PackedMask
    from_prediction: bool = False
    clicks: tuple[TimedClick, ...] = ()
    score: float | None = None
    is_suggested: bool = False
    person: int | None = None
    pieces: int = 1
    is_box: bool = False

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The mask, (H, W); one that is packed is unpacked at each look."""
        return self.pixels.unpacked() if isinstance(self.pixels, PackedMask) else self.pixels

    @property
    def packed(self) -> PackedMask:
        """The mask, packed."""
        return self.pixels if isinstance(self.pixels, PackedMask) else PackedMask.of(self.pixels)

    def holds(self, click: Click) -> bool:
        """Whether a click lies in it."""
        row, column = click.pixel(*self.pixels.shape)
        if isinstance(self.pixels, PackedMask):
            return self.pixels.holds(row, column)
        return bool(self.pixels[row, column])

    def add_to(self, mask: NDArray[np.bool_]) -> None:
        """Adds its pixels to another mask (H, W), in place."""
        if isinstance(self.pixels, PackedMask):
            mask[self.pixels.box.slices] |= self.pixels.inside()
        else:
            mask |= self.pixels

    def take_from(self, mask: NDArray[np.bool_]) -> None:
        """Takes its pixels out of another mask (H, W), in place."""
        if isinstance(self.pixels, PackedMask):
            mask[self.pixels.box.slices] &= ~self.pixels.inside()
        else:
            mask &= ~self.pixels


def are_same(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether two masks (H, W) of one label mean the same thing: they share half of the smaller one."""
    return bool((one & other).sum() >= max(1, _SAME * min(one.sum(), other.sum())))
