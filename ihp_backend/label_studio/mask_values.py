"""What a region holds of its mask: brush RLE, a PNG, the corners of an outline, or no more than a box."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ihp_backend.annotation.masks import PackedMask
from ihp_backend.cache import LoadingCache
from ihp_backend.label_studio import bitmask, polygon, rectangle, rle

BRUSH, BITMASK, POLYGON, RECTANGLE = "brushlabels", "bitmasklabels", "polygonlabels", "rectanglelabels"
"""The type of a region, and the key of its labels in ``value``."""
MASKS = (BRUSH, BITMASK, POLYGON)
"""Those that say which pixels are meant."""
OUTPUTS = (*MASKS, RECTANGLE)
"""All that a click can be answered with."""
TOLERANCE = 1.0
"""So many pixels of the photo may a polygon's outline be off."""

KNOWN: LoadingCache[tuple[str, int, int, bytes], PackedMask] = LoadingCache(
    64 * 2**20, lambda mask: mask.bits.nbytes + 1000
)
"""The masks that were read last, by what was sent: each click sends all masks of the draft again. Bytes."""


class MaskError(ValueError):
    """A region's mask cannot be read; the message says why."""


def holds_mask(value: Mapping[str, Any]) -> bool:
    """Whether a region's value holds a mask, whatever the region's type: an accepted suggestion has its keypoint's."""
    return not {"rle", "imageDataURL", "points", "height"}.isdisjoint(value)


def label_of(region: Mapping[str, Any]) -> str:
    """Returns a region's label, such as the one that a mask is painted with; an empty text if it has none."""
    value = region.get("value")
    labels = value.get(str(region.get("type"))) if isinstance(value, Mapping) else None
    return labels[0] if isinstance(labels, list) and labels and isinstance(labels[0], str) else ""


def size_of(region: Mapping[str, Any], height: int, width: int) -> tuple[Any, Any]:
    """Returns (height, width) of the photo that a region is for: this one's, if it does not say."""
    given = (region.get("original_height"), region.get("original_width"))
    return (height, width) if given == (None, None) else given


def decode(region: Mapping[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    """Reads the mask (H, W) of a region; that of a rectangle is all of its inside.

    Args:
        region: A region of a type in ``OUTPUTS``.
        height: Height of the photo in pixels.
        width: Its width.

    Raises:
        MaskError: If it cannot be read.
    """
    value = region.get("value")
    value = value if isinstance(value, Mapping) else {}
    try:
        match region.get("type"):
            case "bitmasklabels":
                return bitmask.decode(value.get("imageDataURL"), height, width)
            case "polygonlabels":
                return polygon.decode(value.get("points"), height, width)
            case "rectanglelabels":
                return rectangle.decode(value, height, width)
        return rle.decode_mask(value.get("rle", ()), height, width)
    except (rle.RleError, bitmask.BitmaskError, polygon.PolygonError, rectangle.RectangleError) as error:
        raise MaskError(str(error)) from error


def decode_packed(region: Mapping[str, Any], height: int, width: int) -> PackedMask:
    """Reads the mask of a region as ``decode`` does. One of brush or bitmask that was read lately is remembered.

    Args:
        region: A region of a type in ``OUTPUTS``.
        height: Height of the photo in pixels.
        width: Its width.

    Raises:
        MaskError: If it cannot be read.
    """

    def load() -> PackedMask:
        return PackedMask.of(decode(region, height, width))

    kind, value = str(region.get("type")), region.get("value")
    if kind in (POLYGON, RECTANGLE) or not isinstance(value, Mapping):
        return load()
    try:
        if kind == BITMASK:
            sent = bitmask.payload(value.get("imageDataURL"), height, width).encode("utf-8", "surrogatepass")
        else:
            sent = rle.as_bytes(value.get("rle", ()))
    except (rle.RleError, bitmask.BitmaskError) as error:
        raise MaskError(str(error)) from error
    digest = hashlib.blake2b(sent, digest_size=16).digest()
    return KNOWN.get((BITMASK if kind == BITMASK else BRUSH, height, width, digest), load)


def encode(
    mask: NDArray[np.bool_],
    label: str,
    kind: str,
    tolerance: float = TOLERANCE,
    places: Sequence[tuple[int, int]] = (),
) -> list[dict[str, Any]]:
    """Returns the values of the regions that make a mask: one, or a polygon for each piece.

    Args:
        mask: (H, W). An empty one gets a value, too.
        label: What it is.
        kind: A type in ``OUTPUTS``.
        tolerance: Of polygons, in pixels, see ``polygon.encode``.
        places: Pixels (row, column) that a polygon must tell as the mask does.
    """
    if kind == POLYGON:
        outlines = polygon.encode(mask, tolerance, places) or [[[0.0, 0.0]] * 3]
        return [{"points": points, "closed": True, POLYGON: [label]} for points in outlines]
    if kind == RECTANGLE:
        return [rectangle.encode(mask) | {RECTANGLE: [label]}]
    if kind == BITMASK:
        return [{"imageDataURL": bitmask.encode(mask), BITMASK: [label]}]
    return [{"format": "rle", "rle": rle.encode(mask), BRUSH: [label]}]
