"""People who touch are told apart by their heads: a connected piece with several heads is several people.

Each of its pixels goes to the nearest head. A body hangs below its head, so a pixel below a head counts as nearer than
one beside it, and one above as farther. All pixels here are stride-2 pixels of a coarse pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.geometry import OUTPUT_STRIDE
from ihp_backend.inference.prediction import Parse
from ihp_backend.network.click_maps import Point
from ihp_backend.parts import Schema

_HEAD = ("head", "face", "sunglasses", "hair", "hat")
_FACE = ("head", "face", "sunglasses")


@dataclass(frozen=True)
class SplitPeopleOptions:
    """Options of what finds heads and splits people by them.

    Attributes:
        least_head: Area of the smallest head with a face, as a share of the largest head's.
        least_faceless: The same for a head without a face: it may be a tress or a fur collar.
        faceless: A head is without a face if the face takes less than this share of it.
        beside: Two heads are side by side if their centres are farther apart than this share of their mean width.
        two_faces: One head shows two people's faces if the faces' centres are farther apart than so many widths of the
            wider one,
        least_face: and the smaller face has at least this share of the larger one's area.
        below: Factor of the vertical distance to a head of what is below it.
        above: The same of what is above it.
        least_body: A head is dropped if its body is smaller than this share of the largest body.
    """

    least_head: float = 0.1
    least_faceless: float = 0.6
    faceless: float = 0.1
    beside: float = 0.5
    two_faces: float = 1.25
    least_face: float = 0.4
    below: float = 0.5
    above: float = 2.0
    least_body: float = 0.1


DEFAULTS = SplitPeopleOptions()

Place = tuple[float, float]
"""x and y."""


def find_heads(coarse: Parse, options: SplitPeopleOptions = DEFAULTS) -> list[Place]:
    """Returns the innermost place of each head, (x, y) in pixels of the photo, the largest head first.

    Of two heads of which one is above the other, only the larger one is taken.
    """
    head, face = (coarse.is_best(_among(coarse.channels.schema, parts)) for parts in (_HEAD, _FACE))
    solid = cv2.morphologyEx(head.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    numbers = _by_faces(cv2.connectedComponents(solid)[1], face, options)
    count = int(numbers.max()) + 1
    sizes = np.bincount(numbers.ravel(), minlength=count)
    left, right, middles = (np.zeros(count) for _ in range(3))
    for i in range(1, count):
        columns = np.nonzero(numbers == i)[1]
        left[i], right[i], middles[i] = columns.min(), columns.max() + 1, columns.mean()
    widths = right - left
    faces = np.bincount(numbers[face], minlength=count) / np.maximum(sizes, 1)
    found: list[int] = []
    for i in sorted(range(1, count), key=lambda i: -sizes[i]):
        least = options.least_head if faces[i] >= options.faceless else options.least_faceless
        if sizes[i] < least * sizes[1:].max():
            continue
        if all(abs(middles[i] - middles[j]) > options.beside * (widths[i] + widths[j]) / 2 for j in found):
            found.append(i)
    return [coarse.view.out_of_grid(x + 0.5, y + 0.5) for x, y in (innermost(numbers == i) for i in found)]


def unseen_heads(coarse: Parse, heads: Sequence[Place], points: Sequence[Point]) -> list[Place]:
    """Returns the clicked faces where the coarse pass has seen no head, such as a child's before an adult.

    They are farther from every head than the side of a square as large as the average head.

    Args:
        coarse: The coarse pass.
        heads: The heads that it has seen, (x, y) in pixels of the photo.
        points: Clicks, in pixels of the photo.
    """
    faces = _among(coarse.channels.schema, _FACE)
    area = int(coarse.is_best(_among(coarse.channels.schema, _HEAD)).sum())
    side = OUTPUT_STRIDE * math.sqrt(area / max(1, len(heads)))
    seen = [coarse.view.into(x, y) for x, y in heads]
    clicked = [(x, y) for x, y, channel, is_positive in points if is_positive and channel in faces]
    return [place for place in clicked if all(math.dist(coarse.view.into(*place), head) > side for head in seen)]


def _among(schema: Schema, parts: Sequence[str]) -> list[int]:
    return [schema.names.index(part) for part in parts if part in schema.names]


def _by_faces(heads: NDArray[Any], face: NDArray[np.bool_], options: SplitPeopleOptions) -> NDArray[Any]:
    """Splits the heads (h, w), numbered, that show two people's faces, cheek to cheek or with hair between them."""
    count, pieces, stats, middles = cv2.connectedComponentsWithStats((face & (heads > 0)).astype(np.uint8))
    found: dict[int, list[int]] = {}
    for i in sorted(range(1, count), key=lambda i: -stats[i, cv2.CC_STAT_AREA]):
        row, column = (int(v) for v in np.argwhere(pieces == i)[0])
        others = found.setdefault(int(heads[row, column]), [])
        is_large = all(stats[i, cv2.CC_STAT_AREA] >= options.least_face * stats[j, cv2.CC_STAT_AREA] for j in others)
        if is_large and all(
            abs(middles[i, 0] - middles[j, 0])
            > options.two_faces * max(stats[i, cv2.CC_STAT_WIDTH], stats[j, cv2.CC_STAT_WIDTH])
            for j in others
        ):
            others.append(i)
    split = heads.copy()
    for head, faces in found.items():
        rows, columns = np.nonzero(heads == head)
        if len(faces) > 1:
            away = [np.hypot(rows - middles[i, 1], columns - middles[i, 0]) for i in faces]
            split[rows, columns] = np.array([head, *range(split.max() + 1, split.max() + len(faces))])[
                np.argmin(away, 0)
            ]
    return split


def innermost(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Returns (column, row) of a mask's (h, w) pixel that is farthest from its edge."""
    distance = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(column), int(row)


def split_by_heads(
    people: NDArray[Any], heads: Sequence[Place], options: SplitPeopleOptions = DEFAULTS
) -> NDArray[Any]:
    """Splits the people that have several heads.

    Args:
        people: (h, w) int, the id of the person at each pixel; 0 is nobody.
        heads: (column, row) of the heads. One may lie outside: then its body is seen at the edge.
        options: The thresholds.

    Returns:
        The same with an id of its own for each person of a split one.
    """
    owners: dict[int, list[Place]] = {}
    for x, y in heads:
        row, column = (min(max(int(at), 0), size - 1) for at, size in zip((y, x), people.shape, strict=True))
        if person := int(people[row, column]):
            owners.setdefault(person, []).append((x, y))
    split, free = people.copy(), int(people.max()) + 1
    for person, places in owners.items():
        if len(places) > 1:
            rows, columns = np.nonzero(people == person)
            below = [rows + 0.5 - y for _, y in places]
            distances = [
                np.hypot(columns + 0.5 - x, np.where(d > 0, options.below * d, options.above * d))
                for (x, _), d in zip(places, below, strict=True)
            ]
            split[rows, columns] = free + np.argmin(distances, axis=0)
            free += len(places)
    return split
