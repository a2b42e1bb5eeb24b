"""Where a pixel is: percent and pixels, crops and resizes, and their exact inverses.

The half-pixel rule: coordinates are continuous, pixel ``i`` covers ``[i, i + 1)`` and its centre is ``i + 0.5``.
Resizing a length ``n`` to ``m`` multiplies coordinates by ``m / n``; ``cv2.resize`` follows the same rule.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

OUTPUT_STRIDE = 2
"""The network's logits have one pixel for so many of its input, along each side."""


@dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels, ends excluded."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """In pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """In pixels."""
        return self.bottom - self.top

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an array of shape (H, W, ...)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def holds(self, x: float, y: float) -> bool:
        """Whether a place is in it, its edges included."""
        return self.left <= x <= self.right and self.top <= y <= self.bottom

    def filled(self, height: int, width: int) -> NDArray[np.bool_]:
        """Returns a mask (height, width) of its inside."""
        mask = np.zeros((height, width), np.bool_)
        mask[self.slices] = True
        return mask

    def union(self, other: Box) -> Box:
        """Returns the smallest box that holds both."""
        return Box(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )

    def grown(self, share: float, height: int, width: int) -> Box:
        """Returns the box grown at every side by a share of its longer side, cut at the image's edges."""
        margin = math.ceil(share * max(self.width, self.height))
        return Box(
            max(self.left - margin, 0),
            max(self.top - margin, 0),
            min(self.right + margin, width),
            min(self.bottom + margin, height),
        )


def box_of(mask: NDArray[np.bool_]) -> Box | None:
    """Returns the bounding box of a mask of shape (H, W), or ``None`` if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def digest(mask: NDArray[np.bool_]) -> bytes:
    """Tells masks (H, W) apart: different bytes for different masks."""
    box = box_of(mask)
    return packed_digest(b"" if box is None else np.packbits(mask[box.slices]).tobytes(), box, mask.shape)


def packed_digest(bits: bytes, box: Box | None, shape: tuple[int, ...]) -> bytes:
    """The same of a mask's box, ``None`` if it is empty, and the bits in it."""
    return hashlib.blake2b(bits + repr((box, shape)).encode(), digest_size=16).digest()


def percent_to_pixels(x: float, y: float, height: int, width: int) -> tuple[float, float]:
    """Converts Label Studio's percent of the image to continuous pixels (x, y)."""
    return x * width / 100, y * height / 100


def pixels_to_percent(x: float, y: float, height: int, width: int) -> tuple[float, float]:
    """Converts continuous pixels to Label Studio's percent of the image (x, y)."""
    return x * 100 / width, y * 100 / height


def working_size(height: int, width: int, *, area: int, multiple: int = 16) -> tuple[int, int]:
    """Returns the (height, width) at which the network looks at a crop.

    The area is about ``area`` pixels whatever the shape, both sides are multiples of ``multiple``, and the
    aspect changes by no more than that rounding asks for. No side gets longer than 4 times the square's.
    """
    scale = math.sqrt(area / (height * width))
    longest = 4 * math.sqrt(area)

    def rounded(side: float) -> int:
        return max(multiple, round(min(side, longest) / multiple) * multiple)

    return rounded(height * scale), rounded(width * scale)


@dataclass(frozen=True)
class View:
    """A crop of an image, resized to the network's working size."""

    box: Box
    height: int
    width: int

    def crop(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cuts the view out of an image (H, W, 3) and resizes it to (height, width, 3)."""
        part: NDArray[Any] = image[self.box.slices]
        while (
            min(part.shape[0] / self.height, part.shape[1] / self.width) >= 4
            and not part.shape[0] % 2 + part.shape[1] % 2
        ):
            # Of four pixels their mean: ten times as fast as all in one step, and nothing moves.
            part = cv2.resize(part, (part.shape[1] // 2, part.shape[0] // 2), interpolation=cv2.INTER_AREA)
        shrinks = self.height * self.width < part.shape[0] * part.shape[1]
        resized = cv2.resize(
            part, (self.width, self.height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        return resized  # type: ignore[return-value]

    def into(self, x: float, y: float) -> tuple[float, float]:
        """Converts continuous image coordinates to the view's."""
        return (
            (x - self.box.left) * self.width / self.box.width,
            (y - self.box.top) * self.height / self.box.height,
        )

    def out_of(self, x: float, y: float) -> tuple[float, float]:
        """Converts continuous coordinates of the view to the image's; the inverse of ``into``."""
        return (
            x * self.box.width / self.width + self.box.left,
            y * self.box.height / self.height + self.box.top,
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the logits over the view, in stride-2 pixels."""
        return self.height // OUTPUT_STRIDE, self.width // OUTPUT_STRIDE

    def into_grid(self, x: float, y: float) -> tuple[float, float]:
        """Converts continuous image coordinates to continuous (column, row) of the stride-2 grid."""
        u, v = self.into(x, y)
        return u / OUTPUT_STRIDE, v / OUTPUT_STRIDE

    def out_of_grid(self, column: float, row: float) -> tuple[float, float]:
        """Converts continuous (column, row) of the stride-2 grid to image coordinates; the inverse of ``into_grid``."""
        return self.out_of(OUTPUT_STRIDE * column, OUTPUT_STRIDE * row)

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """Returns (row, column) of the stride-2 pixel that a place of the image lies in; it may be outside the grid."""
        column, row = self.into_grid(x, y)
        return math.floor(row), math.floor(column)

    def coverage(self, mask: NDArray[np.bool_], box: Box) -> NDArray[np.float32]:
        """Returns which share of each stride-2 pixel a mask covers, (h, w), 0 to 1.

        A stride-2 pixel's share is read off the mask's sums from a corner on, so that only the mask's box is looked at.

        Args:
            mask: (H, W), of the image.
            box: What holds all of it.
        """
        h, w = self.grid
        tall, wide = self.box.height / h, self.box.width / w
        rows = np.clip(self.box.top + tall * np.arange(h + 1) - box.top, 0, box.height)
        columns = np.clip(self.box.left + wide * np.arange(w + 1) - box.left, 0, box.width)
        sums = cv2.integral(mask[box.slices].view(np.uint8))
        at_edges = _between(_between(sums, rows).T, columns).T
        covered: NDArray[np.float32] = (np.diff(np.diff(at_edges, axis=0), axis=1) / (tall * wide)).astype(np.float32)
        return np.clip(covered, 0, 1)

    def enlarge(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resizes values over the view, of any shape (h, w) or (h, w, C), to the pixels of its box."""
        size = (self.box.width, self.box.height)
        return cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _between(values: NDArray[Any], places: NDArray[np.float64]) -> NDArray[Any]:
    """The rows of (N, M) at fractional places, interpolated."""
    before = np.minimum(places.astype(np.int64), max(len(values) - 2, 0))
    rest = (places - before)[:, None]
    found: NDArray[Any] = values[before] * (1 - rest) + values[np.minimum(before + 1, len(values) - 1)] * rest
    return found
