"""Label Studio's polygons: a mask as outlines, one for each piece, and back.

A polygon is a list of corners, in percent of the photo. A pixel belongs to it if its centre does, by the nonzero rule,
as the interface paints it. Label Studio's polygons have no holes: a slit without width joins a hole to its outline, and
that rule leaves the hole open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.geometry import Box, box_of
from ihp_backend.label_studio.percent import is_percent

_LIKE = 0.95
"""The polygons of a mask are like it (IoU): where the tolerance would cost more, as in a thin belt, it is halved."""
_FINEST = 0.1
"""A tolerance below so many pixels is none: the outline stays as it is."""
_GRID = 64
"""Corners are read to this part of a pixel, so that a float that was rounded on its way makes the same mask."""
_FARTHEST = 100.0
"""A corner may be outside of the photo by so many percent of it: what lies there is cut off."""
_MOST_CROSSINGS = 2_000_000
"""Of edges and rows of pixels; the outline of a mask on 12 megapixels has some ten thousand."""


class PolygonError(ValueError):
    """Points are no polygon that can be read; the message says why."""


def encode(
    mask: NDArray[np.bool_], tolerance: float, places: Sequence[tuple[int, int]] = ()
) -> list[list[list[float]]]:
    """Returns the outlines of a mask's pieces, the largest first.

    Pieces and holes that are thinner than the tolerance are left out.

    Args:
        mask: (H, W).
        tolerance: Greatest distance, in pixels, by which an outline may move. It is halved until the IoU with the mask
            is 0.95.
        places: Pixels (row, column) at which the polygons must agree with the mask, such as clicks.

    Returns:
        For each piece its corners, ``[x, y]`` in percent of the photo; none for an empty mask.
    """
    height, width = mask.shape
    box = box_of(mask)
    if box is None:
        return []
    inside = mask[box.slices]
    within = [(row - box.top, column - box.left) for row, column in places]
    within = [(r, c) for r, c in within if 0 <= r < box.height and 0 <= c < box.width]
    while True:
        found = _outlines(inside, tolerance if tolerance >= _FINEST else 0.0)
        drawn = np.zeros_like(inside)
        for corners in found:
            drawn |= _filled(corners, Box(0, 0, box.width, box.height))
        is_like = (drawn & inside).sum() >= _LIKE * (drawn | inside).sum()
        if tolerance < _FINEST or (is_like and all(drawn[place] == inside[place] for place in within)):
            break
        tolerance /= 2
    scale = 100 / np.array([width, height])
    return [np.round((corners + np.array([box.left, box.top])) * scale, 5).tolist() for corners in found]


def decode(points: object, height: int, width: int) -> NDArray[np.bool_]:
    """Fills a polygon; returns its mask (H, W).

    Args:
        points: ``[[x, y], ...]``, percent of the photo.
        height: Height of the photo in pixels.
        width: Its width.

    Raises:
        PolygonError: If there are fewer than three points, one is no number or is more than 100 percent outside, or
            the edges cross too many rows of pixels.
    """
    if not isinstance(points, list) or len(points) < 3:
        there = f"{len(points)} points" if isinstance(points, list) else type(points).__name__
        raise PolygonError(f"the polygon has {there}; expected a list of three at least")
    if not all(
        isinstance(p, list | tuple) and len(p) == 2 and all(is_percent(v, _FARTHEST) for v in p) for p in points
    ):
        raise PolygonError("the polygon has a point that is no [x, y] in percent of the photo, 0 to 100")
    corners = np.array(points, np.float64) * (width, height) / 100
    return fill(corners, height, width)


def fill(corners: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """Fills a polygon; returns its mask (H, W).

    Args:
        corners: (N, 2), x and y in continuous pixels.
        height: Height of the photo in pixels.
        width: Its width.

    Raises:
        PolygonError: If the edges cross too many rows of pixels.
    """
    corners = np.round(corners * _GRID) / _GRID
    mask = np.zeros((height, width), np.bool_)
    left, top = (max(math.floor(v), 0) for v in corners.min(0))
    box = Box(left, top, min(math.ceil(corners[:, 0].max()), width), min(math.ceil(corners[:, 1].max()), height))
    if box.width > 0 and box.height > 0:
        mask[box.slices] = _filled(corners, box)
    return mask


def _filled(corners: NDArray[np.float64], box: Box) -> NDArray[np.bool_]:
    """The pixels of a box, (h, w), whose centres a polygon winds around."""
    starts, ends = corners, np.roll(corners, -1, 0)
    # The rows whose centres an edge crosses: from the upper end, inclusive, to the lower one.
    upper, lower = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    first = np.clip(np.ceil(upper - 0.5), box.top, box.bottom).astype(np.int64)
    counts = np.clip(np.ceil(lower - 0.5), box.top, box.bottom).astype(np.int64) - first
    if counts.sum() > _MOST_CROSSINGS:
        raise PolygonError(f"the polygon's {len(corners)} edges cross {counts.sum()} rows of pixels; too many")
    edge = np.repeat(np.arange(len(corners)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    (x0, y0), (x1, y1) = starts[edge].T, ends[edge].T
    x = x0 + (row + 0.5 - y0) / (y1 - y0) * (x1 - x0)
    column = np.clip(np.ceil(x - 0.5), box.left, box.right).astype(np.int64) - box.left
    winding = np.zeros((box.height, box.width + 1), np.int32)
    np.add.at(winding, (row - box.top, column), np.where(y1 > y0, 1, -1))
    filled: NDArray[np.bool_] = np.cumsum(winding, 1, out=winding)[:, :-1] != 0
    return filled


def _outlines(mask: NDArray[np.bool_], tolerance: float) -> list[NDArray[np.float64]]:
    """The simplified outlines (N, 2) of a mask's pieces, in continuous pixels; holes are joined to them.

    In twice its size an outline runs a quarter of a pixel inside of a piece, so that even a single pixel has an area.
    """
    twice = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, hierarchy = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    pieces: dict[int, NDArray[np.float64]] = {}
    holes: list[tuple[int, NDArray[np.float64]]] = []
    for number, (contour, (_, _, _, around)) in enumerate(zip(contours, hierarchy[0], strict=True)):
        corners = cv2.approxPolyDP(contour, 2 * tolerance, closed=True)[:, 0]
        if len(corners) < 3:
            continue
        placed = (corners + 0.5) / 2
        if around < 0:
            pieces[number] = placed
        else:
            holes.append((around, placed))
    for around, hole in holes:
        if around in pieces:
            pieces[around] = _joined(pieces[around], hole)
    return sorted(pieces.values(), key=lambda corners: -abs(_area(corners)))


def _joined(outline: NDArray[np.float64], hole: NDArray[np.float64]) -> NDArray[np.float64]:
    """An outline that goes to a hole from a corner nearby, around it the other way, and back."""
    if _area(outline) * _area(hole) > 0:
        hole = hole[::-1]
    at = _nearest(outline, hole[0])
    around = np.roll(hole, -_nearest(hole, outline[at]), 0)
    return np.concatenate((outline[: at + 1], around, around[:1], outline[at:]))


def _nearest(corners: NDArray[np.float64], place: NDArray[np.float64]) -> int:
    return int(((corners - place) ** 2).sum(1).argmin())


def _area(corners: NDArray[np.float64]) -> float:
    x, y = corners.T
    return float(x @ np.roll(y, -1) - np.roll(x, -1) @ y) / 2
