"""What a region holds of its mask: brush RLE in a brush region, a PNG in a bitmask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ihp_backend.label_studio import bitmask, rle

BRUSH, BITMASK = "brushlabels", "bitmasklabels"
"""The type of a region, and the key of its labels in ``value``."""
MASKS = (BRUSH, BITMASK)


class MaskError(ValueError):
    """A region's mask cannot be read; the message says why."""


def holds_mask(value: Mapping[str, Any]) -> bool:
    """Whether a region's value holds a mask, whatever the region's type: an accepted suggestion has its keypoint's."""
    return "rle" in value or "imageDataURL" in value


def label_of(region: Mapping[str, Any]) -> str:
    """Returns the label that a mask is painted with; an empty text if it has none."""
    value = region.get("value")
    labels = value.get(str(region.get("type"))) if isinstance(value, Mapping) else None
    return labels[0] if isinstance(labels, list) and labels and isinstance(labels[0], str) else ""


def decode(region: Mapping[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    """Reads the mask (H, W) of a region.

    Args:
        region: A region of a type in ``MASKS``.
        height: Height of the photo in pixels.
        width: Its width.

    Raises:
        MaskError: If it cannot be read.
    """
    value = region.get("value")
    value = value if isinstance(value, Mapping) else {}
    try:
        if region.get("type") == BITMASK:
            return bitmask.decode(value.get("imageDataURL"), height, width)
        return rle.decode_mask(value.get("rle", ()), height, width)
    except (rle.RleError, bitmask.BitmaskError) as error:
        raise MaskError(str(error)) from error


def encode(mask: NDArray[np.bool_], label: str, kind: str) -> dict[str, Any]:
    """Returns the value of a region of a type in ``MASKS``."""
    if kind == BITMASK:
        return {"imageDataURL": bitmask.encode(mask), BITMASK: [label]}
    return {"format": "rle", "rle": rle.encode(mask), BRUSH: [label]}
