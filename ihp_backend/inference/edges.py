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
        """Resizes bounded values (h, w) over the view to its box, (H, W), with steps where the photo has edges."""
        grey, mean, variance = self._small
        wide = cv2.resize(values, grey.shape[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
        level = _mean(wide)
        slope = (_mean(grey * wide) - mean * level) / (variance + np.float32(_SMOOTHNESS))
        fitted = np.dstack((_mean(slope), _mean(level - slope * mean)))
        enlarged = self.view.enlarge(fitted)
        found: NDArray[np.float32] = enlarged[..., 0] * self.grey
        found *= np.float32(1 / 255)
        found += enlarged[..., 1]
        return found


def _mean(values: NDArray[Any]) -> NDArray[Any]:
    side = 2 * _RADIUS + 1
    return cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT)
