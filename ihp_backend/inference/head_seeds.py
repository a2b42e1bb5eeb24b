"""People who touch: a figure with several heads is several people.

Each cell of it belongs to the nearest head. Bodies hang below heads, so what is below counts as nearer than what is
beside, and what is above as farther.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.inference.prediction import Parse
from ihp_backend.network.click_maps import Point
from ihp_backend.parts import Schema

_HEAD = ("head", "face", "sunglasses", "hair", "hat")
_FACE = ("head", "face", "sunglasses")
_LEAST = 0.1
"""A head has at least this share of the largest one's cells;"""
_LEAST_FACELESS = 0.6
"""one that shows hardly any face, which may as well be a tress or a fur collar, at least this."""
_HARDLY = 0.1
_BESIDE = 0.5
"""Heads are side by side if their middles are farther apart than this share of their widths."""
_CHEEK = 1.25
"""One head has two people's faces if their middles are farther apart than so many widths of the wider one,"""
_LEAST_FACE = 0.4
"""and the smaller one has at least this share of the larger one's cells."""
_BELOW, _ABOVE = 0.5, 2.0

Place = tuple[float, float]
"""x and y."""


def heads_of(look: Parse) -> list[Place]:
    """Returns the innermost place of each head, in pixels of the photo, the largest head first; none above another."""
    head, face = (look.is_won_by(_among(look.channels.schema, parts)) for parts in (_HEAD, _FACE))
    side = max(3, round(0.01 * max(head.shape)))
    solid = cv2.morphologyEx(head.astype(np.uint8), cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    numbers = _by_faces(cv2.connectedComponents(solid)[1], face)
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
        least = _LEAST if faces[i] >= _HARDLY else _LEAST_FACELESS
        if sizes[i] < least * sizes[1:].max():
            continue
        if all(abs(middles[i] - middles[j]) > _BESIDE * (widths[i] + widths[j]) / 2 for j in found):
            found.append(i)
    return [look.view.out_of(2.0 * x + 1, 2.0 * y + 1) for x, y in (innermost(numbers == i) for i in found)]


def unseen_heads(look: Parse, heads: Sequence[Place], points: Sequence[Point]) -> list[Place]:
    """Returns the clicked faces that are farther from every head that a look saw than a head is large.

    They are somebody else's, such as a child's before an adult.

    Args:
        look: A parse without clicks.
        heads: The heads that were seen, in pixels of the photo.
        points: Clicks, in pixels of the photo.
    """
    faces = _among(look.channels.schema, _FACE)
    cells = int(look.is_won_by(_among(look.channels.schema, _HEAD)).sum())
    side = 2 * math.sqrt(cells / max(1, len(heads)))
    seen = [look.view.into(x, y) for x, y in heads]
    clicked = [(x, y) for x, y, channel, is_positive in points if is_positive and channel in faces]
    return [place for place in clicked if all(math.dist(look.view.into(*place), head) > side for head in seen)]


def _among(schema: Schema, parts: Sequence[str]) -> list[int]:
    return [schema.names.index(part) for part in parts if part in schema.names]


def _by_faces(heads: NDArray[Any], face: NDArray[np.bool_]) -> NDArray[Any]:
    """Splits the heads (h, w), numbered, that show two people's faces, cheek to cheek or with hair between them."""
    count, pieces, stats, middles = cv2.connectedComponentsWithStats((face & (heads > 0)).astype(np.uint8))
    found: dict[int, list[int]] = {}
    for i in sorted(range(1, count), key=lambda i: -stats[i, cv2.CC_STAT_AREA]):
        row, column = (int(v) for v in np.argwhere(pieces == i)[0])
        others = found.setdefault(int(heads[row, column]), [])
        is_large = all(stats[i, cv2.CC_STAT_AREA] >= _LEAST_FACE * stats[j, cv2.CC_STAT_AREA] for j in others)
        if is_large and all(
            abs(middles[i, 0] - middles[j, 0]) > _CHEEK * max(stats[i, cv2.CC_STAT_WIDTH], stats[j, cv2.CC_STAT_WIDTH])
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
    """The column and row of a mask's (h, w) cell that is farthest from its edge."""
    distance = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(column), int(row)


def apart(figures: NDArray[Any], heads: Sequence[Place]) -> NDArray[Any]:
    """Splits the figures that have several heads.

    Args:
        figures: (h, w) number of the figure of each cell; 0 is nobody.
        heads: Places of the heads, in cells. Of one that lies outside, the body may still be seen at the edge.

    Returns:
        The same with a number of its own for each person of a split figure.
    """
    owners: dict[int, list[Place]] = {}
    for x, y in heads:
        row, column = (min(max(int(at), 0), size - 1) for at, size in zip((y, x), figures.shape, strict=True))
        if figure := int(figures[row, column]):
            owners.setdefault(figure, []).append((x, y))
    people, free = figures.copy(), int(figures.max()) + 1
    for figure, places in owners.items():
        if len(places) > 1:
            rows, columns = np.nonzero(figures == figure)
            below = [rows + 0.5 - y for _, y in places]
            away = [
                np.hypot(columns + 0.5 - x, np.where(d > 0, _BELOW * d, _ABOVE * d))
                for (x, _), d in zip(places, below, strict=True)
            ]
            people[rows, columns] = free + np.argmin(away, axis=0)
            free += len(places)
    return people
