"""Label Studio's bitmasks: a mask as a PNG with alpha, in a data URL."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.label_studio.rle import from_alpha

_PREFIX = "data:image/png;base64,"
_MOST_BYTES_A_PIXEL = 8
"""A PNG of four channels that cannot be compressed takes half of it."""


class BitmaskError(ValueError):
    """A text is no bitmask, or none of the expected size."""


def encode(mask: NDArray[np.bool_]) -> str:
    """Writes a mask (H, W) as small as PNG allows: one bit a pixel, black where the mask is, else transparent."""
    image = Image.fromarray(mask.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 0, 0, 0])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=1, transparency=bytes([0, 255]))
    return _PREFIX + base64.b64encode(buffer.getvalue()).decode()


def payload(url: object, height: int, width: int) -> str:
    """Returns what follows a data URL's head, not decoded.

    Raises:
        BitmaskError: If it is no data URL of a PNG, or longer than any of the photo's size.
    """
    if not isinstance(url, str) or not url.startswith(_PREFIX):
        raise BitmaskError(f"the bitmask begins with {str(url)[:40]!r}; expected {_PREFIX}...")
    if len(url) > 4096 + _MOST_BYTES_A_PIXEL * height * width:
        raise BitmaskError(f"the bitmask has {len(url)} characters, too many for {width}x{height} pixels")
    return url[len(_PREFIX) :]


def decode(url: object, height: int, width: int) -> NDArray[np.bool_]:
    """Reads a mask (H, W) from the alpha of a PNG. Without alpha it is the whole photo, as it is on the screen.

    Args:
        url: ``data:image/png;base64,...``.
        height: Height of the photo in pixels.
        width: Its width.

    Raises:
        BitmaskError: If it is none, or has another size. Nothing larger than the photo is decoded.
    """
    encoded = payload(url, height, width)
    try:
        image = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)), formats=["PNG"])
        if image.size != (width, height):
            raise BitmaskError(
                f"the bitmask is {image.size[0]}x{image.size[1]}; expected the photo's {width}x{height} pixels"
            )
        if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
            image.load()
            return np.ones((height, width), bool)
        alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else image.convert("RGBA").getchannel("A")
    except (binascii.Error, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, BitmaskError):
            raise
        raise BitmaskError(f"the bitmask is no PNG that can be read: {error}") from error
    return from_alpha(np.asarray(alpha, np.uint8))
