"""Edges of masks follow the photo's edges: a guided filter, fitted where the network looked, applied at full size.

Within a small window, a mask is taken for a linear function of the photo's brightness. Source: He, Sun and Tang,
"Guided Image Filtering", ECCV 2010; fitted on a smaller image as in He and Sun, "Fast Guided Filter", 2015.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.geometry import View

_STRIP = 128
"""Rows of the photo that are worked on at once: they stay in the processor's cache."""


@dataclass(frozen=True)
class GuidedUpsamplingOptions:
    """Options of guided upsampling.

    Attributes:
        radius: Of the window, in pixels of the view.
        smoothness: Differences of brightness (0 to 1) whose square is much less than this are no edges.
        nowhere: Where the values (from -1 on) are on average below it, no mask comes to be, and time is saved.
    """

    radius: int = 3
    smoothness: float = 1e-3
    nowhere: float = -0.98


_DEFAULTS = GuidedUpsamplingOptions()


@dataclass(frozen=True)
class GuidedUpsampling:
    """Brings values over a view to the photo's size, guided by the photo's brightness.

    Attributes:
        view: The view.
        grey: (H, W) uint8: brightness of the view's box, at the photo's size.
        options: The thresholds.
    """

    view: View
    grey: NDArray[np.uint8]
    options: GuidedUpsamplingOptions = _DEFAULTS

    @classmethod
    def of(cls, image: NDArray[np.uint8], view: View, options: GuidedUpsamplingOptions = _DEFAULTS) -> GuidedUpsampling:
        """Takes what is needed of a photo, (H, W, 3) uint8 RGB."""
        grey = cv2.cvtColor(image[view.box.slices], cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
        return cls(view, grey, options)

    @cached_property
    def _small(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Brightness at the view's size, its mean around each pixel, and its variance there."""
        size = (self.view.width, self.view.height)
        grey = cv2.resize(self.grey, size, interpolation=cv2.INTER_AREA) * np.float32(1 / 255)
        mean = self._mean(grey)
        return grey, mean, self._mean(grey * grey) - mean * mean

    def enlarge(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resizes values from -1 to 1 (h, w) over the view to its box, (H, W), with steps where the photo has edges."""
        found = np.full(self.grey.shape, -1, np.float32)
        for place, there in self._enlarged(values):
            found[place] = there
        return found

    def positive(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Where the enlarged values are above 0, (H, W)."""
        found = np.zeros(self.grey.shape, bool)
        for place, there in self._enlarged(values):
            np.greater(there, 0, out=found[place])
        return found

    def _enlarged(self, values: NDArray[np.float32]) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float32]]]:
        """The enlarged values strip by strip, with the place of each; elsewhere they are -1."""
        grey, mean, variance = self._small
        wide = cv2.resize(values, grey.shape[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
        level = self._mean(wide)
        slope = (self._mean(grey * wide) - mean * level) / (variance + np.float32(self.options.smoothness))
        fitted = np.dstack((self._mean(slope) * np.float32(1 / 255), self._mean(level - slope * mean)))
        inside = _extent(level > self.options.nowhere, 2 * self.options.radius)
        down, across = self.view.height / self.view.box.height, self.view.width / self.view.box.width
        rows, columns = (
            slice(max(0, int(part.start / scale) - 1), min(length, int(part.stop / scale) + 2))
            for part, scale, length in zip(inside, (down, across), self.grey.shape, strict=True)
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        for top in range(rows.start, rows.stop, _STRIP):
            place = slice(top, min(top + _STRIP, rows.stop)), columns
            here = self.grey[place]
            # The centre of pixel i of the photo is at (i + 1/2) * scale of the view.
            affine = np.array([[across, 0, (columns.start + 0.5) * across - 0.5], [0, down, (top + 0.5) * down - 0.5]])
            line: NDArray[Any] = cv2.warpAffine(
                fitted, affine, here.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE
            )
            yield place, line[..., 0] * here + line[..., 1]

    def _mean(self, values: NDArray[Any]) -> NDArray[Any]:
        side = 2 * self.options.radius + 1
        return cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT)


def _extent(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """The rows and columns of a mask (H, W), and a margin around them."""
    found = []
    for axis, length in ((1, mask.shape[0]), (0, mask.shape[1])):
        there = np.flatnonzero(mask.any(axis))
        if not there.size:
            return slice(0, 0), slice(0, 0)
        found.append(slice(max(0, int(there[0]) - margin), min(length, int(there[-1]) + 1 + margin)))
    return found[0], found[1]
