"""Label Studio's rectangles: the box of a mask, and the inside of a box, which may be turned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ihp_backend.geometry import box_of, pixels_to_percent
from ihp_backend.label_studio import polygon
from ihp_backend.label_studio.percent import is_number

_FARTHEST = 200.0
"""Percent. A polygon's corners may be outside by 100; a box of width 200 that begins there still meets the photo."""


class RectangleError(ValueError):
    """A value is no rectangle that can be read; the message says why."""


def encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Returns the box of a mask (H, W), in percent of the photo; an empty one has a box of no size."""
    box = box_of(mask)
    if box is None:
        return {"x": 0.0, "y": 0.0, "width": 0.0, "height": 0.0, "rotation": 0}
    x, y = pixels_to_percent(box.left, box.top, *mask.shape)
    across, down = pixels_to_percent(box.width, box.height, *mask.shape)
    return {"x": x, "y": y, "width": across, "height": down, "rotation": 0}


def decode(value: Mapping[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    """Returns the inside (H, W) of a rectangle: the pixels whose centres are in it.

    Args:
        value: ``x``, ``y``, ``width`` and ``height`` in percent of the photo, and ``rotation``, in degrees clockwise
            around (x, y).
        height: Height of the photo in pixels.
        width: Its width.

    Raises:
        RectangleError: If a number is missing, the rectangle has no size, or lies far outside.
    """
    numbers = [value.get(name) for name in ("x", "y", "width", "height")] + [value.get("rotation") or 0]
    if not all(map(is_number, numbers)):
        raise RectangleError(f"the rectangle has {numbers!r:.200}; expected the numbers x, y, width, height, rotation")
    x, y, across, down, turned = (float(n) for n in numbers)
    if not (across > 0 and down > 0):
        raise RectangleError(f"the rectangle is {across:g} by {down:g} percent of the photo; expected a size")
    if max(map(abs, (x, y, across, down))) > _FARTHEST:
        raise RectangleError("the rectangle lies far outside of the photo; expected percent of it, 0 to 100")
    angle = math.radians(turned)
    along = np.array([math.cos(angle), math.sin(angle)]) * across * width / 100
    aside = np.array([-math.sin(angle), math.cos(angle)]) * down * height / 100
    start = np.array([x * width, y * height]) / 100
    return polygon.fill(np.stack([start, start + along, start + along + aside, start + aside]), height, width)
