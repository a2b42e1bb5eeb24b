"""Masks of one photo -> one label image: which mask wins where several lie, and what lies where none does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.parts import IGNORE


@dataclass(frozen=True)
class Layer:
    """One mask of a photo.

    Attributes:
        mask: (H, W) bool.
        label: What it is, in the annotators' words.
        class_id: Its class; ``None`` if the data set has none for it.
        person: Whose it is, 1, 2 ...; ``None`` if that is not known.
    """

    mask: NDArray[np.bool_]
    label: str
    class_id: int | None
    person: int | None = None


@dataclass(frozen=True)
class Composition:
    """The masks of one photo, laid over each other.

    Attributes:
        labels: (H, W) uint8 class of each pixel: 0 where no mask is, 255 where only masks without a class are.
        people: (H, W) uint8 person of each pixel, 0 where no mask says who.
        instances: (H, W) uint16 part instance of each pixel, 1, 2 ..., and 0 for none: the pixels of one class and one
            person; a mask that does not say whose it is is an instance of its own.
        kinds: The class and the person (0: not known) of each instance.
        overlaps: For each ``"A over B"`` the pixels where a mask hides an earlier one of another class or person.
        overlapping: Pixels with more than one class or person.
        gaps: Pixels without a mask that masks enclose.
        without_class: Pixels that only masks without a class cover.
        without_person: Masks that do not say whose they are.
    """

    labels: NDArray[np.uint8]
    people: NDArray[np.uint8]
    instances: NDArray[np.uint16]
    kinds: tuple[tuple[int, int], ...]
    overlaps: dict[str, int]
    overlapping: int
    gaps: int
    without_class: int
    without_person: int


def compose(layers: Iterable[Layer], height: int, width: int) -> Composition:
    """Lays masks over each other. The later one wins, for it lies on top in the interface too.

    A mask without a class hides none that has one: what it covers alone is ignored.

    Args:
        layers: The masks, the lowest first. One at a time is asked for.
        height: Height of the photo in pixels.
        width: Its width.
    """
    owners: NDArray[np.uint16] = np.zeros((height, width), np.uint16)
    known: list[tuple[int, int, int]] = [(0, 0, 0)]
    names = [""]
    unclassed: NDArray[np.bool_] = np.zeros((height, width), bool)
    contested: NDArray[np.bool_] = np.zeros((height, width), bool)
    overlaps: Counter[str] = Counter()
    without_person = 0
    for number, layer in enumerate(layers, 1):
        if layer.class_id is None:
            unclassed |= layer.mask
            continue
        without_person += layer.person is None
        kind = (layer.class_id, layer.person or 0, 0 if layer.person else number)
        if kind not in known:
            known.append(kind)
            names.append(layer.label + (f" of person {layer.person}" if layer.person else ""))
        own = known.index(kind)
        hidden = owners[layer.mask]
        for other, pixels in enumerate(np.bincount(hidden, minlength=1).tolist()):
            if other and pixels and known[other][:2] != kind[:2]:
                overlaps[f"{names[own]} over {names[other]}"] += pixels
                contested |= layer.mask & (owners == other)
        owners[layer.mask] = own
    seen = [kind for kind in range(1, len(known)) if (owners == kind).any()]
    place = np.zeros(len(known), np.uint16)
    place[seen] = np.arange(1, len(seen) + 1)
    classes = np.array([kind[0] for kind in known], np.uint8)
    people = np.array([kind[1] for kind in known], np.uint8)
    unclassed &= owners == 0
    labels = classes[owners]
    labels[unclassed] = IGNORE
    return Composition(
        labels,
        people[owners],
        place[owners],
        tuple(known[kind][:2] for kind in seen),
        dict(overlaps.most_common()),
        int(contested.sum()),
        _enclosed((owners == 0) & ~unclassed),
        int(unclassed.sum()),
        without_person,
    )


def _enclosed(free: NDArray[np.bool_]) -> int:
    """How many pixels have no free way, by their four sides, out of the photo."""
    framed = np.pad(free, 1, constant_values=True).astype(np.uint8)
    _, pieces = cv2.connectedComponents(framed, connectivity=4)
    return int(((framed > 0) & (pieces != pieces[0, 0])).sum())
