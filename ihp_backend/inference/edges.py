"""Edges of masks follow the photo's edges: a guided filter, fitted where the network looked, applied at full size.

Within a small window, a mask is taken for a linear function of the photo's brightness. Source: He, Sun and Tang,
"Guided Image Filtering", ECCV 2010; fitted on a smaller image as in He and Sun, "Fast Guided Filter", 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.geometry import View

_RADIUS = 3
"""Of the window, in pixels of the view; the logits have one cell for two of them."""
_SMOOTHNESS = 1e-3
"""Differences of brightness (0 to 1) whose square is much less than this are no edges."""
_NOWHERE = -0.98
"""Where the values (from -1 on) are on average below it, no mask comes to be, and time is saved."""


@dataclass(frozen=True)
class Guide:
    """What a photo looks like in a view.

    Attributes:
        view: The view.
        grey: (H, W) uint8: brightness of the view's box, at the photo's size.
    """

    view: View
    grey: NDArray[np.uint8]

    @classmethod
    def of(cls, image: NDArray[np.uint8], view: View) -> Guide:
        """Takes what is needed of a photo (H, W, 3)."""
        return cls(view, cv2.cvtColor(image[view.box.slices], cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False))

    @cached_property
    def _small(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Brightness at the view's size, its mean around each pixel, and its variance there."""
        size = (self.view.width, self.view.height)
        grey = cv2.resize(self.grey, size, interpolation=cv2.INTER_AREA) * np.float32(1 / 255)
        mean = _mean(grey)
        return grey, mean, _mean(grey * grey) - mean * mean

    def enlarge(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resizes values from -1 to 1 (h, w) over the view to its box, (H, W), with steps where the photo has edges."""
        grey, mean, variance = self._small
        wide = cv2.resize(values, grey.shape[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
        level = _mean(wide)
        slope = (_mean(grey * wide) - mean * level) / (variance + np.float32(_SMOOTHNESS))
        fitted = np.dstack((_mean(slope), _mean(level - slope * mean)))
        return self._at_full_size(fitted, _where(level > _NOWHERE))

    def _at_full_size(self, fitted: NDArray[np.float32], inside: tuple[slice, slice]) -> NDArray[np.float32]:
        """Applies the linear functions (H, W, 2) at the photo's size, inside a part of the view; elsewhere it is -1."""
        box, view = self.view.box, self.view
        found = np.full((box.height, box.width), -1, np.float32)
        down, across = view.height / box.height, view.width / box.width
        rows, columns = (
            slice(max(0, int(part.start / scale) - 1), min(length, int(part.stop / scale) + 2))
            for part, scale, length in zip(inside, (down, across), found.shape, strict=True)
        )
        # The centre of pixel i of the photo is at (i + 1/2) * scale of the view.
        affine = np.array(
            [[across, 0, (columns.start + 0.5) * across - 0.5], [0, down, (rows.start + 0.5) * down - 0.5]]
        )
        place, grey = found[rows, columns], self.grey[rows, columns]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        wide: NDArray[Any] = cv2.warpAffine(
            fitted, affine, place.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        place[:] = wide[..., 0] * grey
        place *= np.float32(1 / 255)
        place += wide[..., 1]
        return found


def _where(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The rows and columns of a mask (H, W), and a window's radius around them."""
    found = []
    for axis, length in ((1, mask.shape[0]), (0, mask.shape[1])):
        there = np.flatnonzero(mask.any(axis))
        if not there.size:
            return slice(0, 0), slice(0, 0)
        found.append(slice(max(0, int(there[0]) - 2 * _RADIUS), min(length, int(there[-1]) + 1 + 2 * _RADIUS)))
    return found[0], found[1]


def _mean(values: NDArray[Any]) -> NDArray[Any]:
    side = 2 * _RADIUS + 1
    return cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT)
