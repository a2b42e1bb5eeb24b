"""Image files of any common kind -> RGB, turned as a browser shows them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features

# Named, because Pillow knows formats that start other programs (EPS) or have no business here.
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]
if features.check("avif"):
    FORMATS.append("AVIF")

MOST_SIDE = 65_535
"""As of JPEG. Millions of rows of a pixel each take a hundred times the memory of a photo with as many pixels."""
STRIP = 1 << 20
"""Pixels that are converted at a time."""
_MOST_STEPS = 100_000
_ORIENTATION = 0x0112
_TURNS: dict[int, Callable[[NDArray[np.uint8]], Any]] = {
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.rotate(image, cv2.ROTATE_180),
    4: lambda image: cv2.flip(image, 0),
    5: lambda image: cv2.transpose(image),
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.flip(cv2.transpose(image), -1),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
_CV2_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION

# The limit is the caller's. Pillow's own, 89 megapixels, is below what may be set; this is OpenCV's.
Image.MAX_IMAGE_PIXELS = 2**30


class ImageError(ValueError):
    """An image cannot be had; the message says why.

    Attributes:
        is_temporary: Label Studio itself was busy, down or slow: another try may go well.
        status: The HTTP status that refused it, if one did.
    """

    def __init__(self, message: str, *, is_temporary: bool = False, status: int | None = None) -> None:
        super().__init__(message)
        self.is_temporary = is_temporary
        self.status = status


class Counted(io.BytesIO):
    """An image file that is read in few steps: a photo has some dozen pieces, and a decoder takes each in turn.

    Millions of empty chunks, or thousands of entries that all point to the whole file, would take minutes or gigabytes.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._bytes = 4 * len(data) + (1 << 20)
        self._steps = _MOST_STEPS

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads, and raises ImageError where no photo is read so often."""
        found = super().read(size)
        self._steps -= 1
        self._bytes -= len(found)
        if self._steps < 0 or self._bytes < 0:
            raise ImageError("the image is in more pieces than any photo; save it anew as PNG or JPEG")
        return found


def plain_ending(data: bytes) -> str | None:
    """Returns the ending of a file that every program shows as a browser does, ``.jpg`` or ``.png``, else ``None``.

    That is an upright JPEG or PNG, grey or coloured, without transparency. EXIF orientations are not heeded by most
    programs that read label images.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.mode not in ("L", "RGB") or image.has_transparency_data or _orientation(image) != 1:
                return None
            if image.format == "PNG":
                return ".png"
            # As data sets are read: a JPEG that ends otherwise is taken for one that was cut off.
            return ".jpg" if image.format in ("JPEG", "MPO") and b"\xff\xd9" in data[-1024:] else None
    except Exception:
        return None


def decode_image(data: bytes, *, max_pixels: int) -> NDArray[np.uint8]:
    """Decodes an image file.

    Transparent images are put on white, 16-bit ones scaled to 8 bits, and EXIF orientations applied; of
    several frames the first is taken.

    Args:
        data: The file's bytes: JPEG, PNG, WebP, GIF, BMP, TIFF, PPM or AVIF.
        max_pixels: Largest width times height; checked before memory is taken.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: If the data is empty, not an image, truncated, damaged or too large.
    """
    if not data:
        raise ImageError("the file is empty; expected an image")
    try:
        with Image.open(Counted(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(
                    f"the image has {width} x {height} pixels; expected at most {max_pixels} in all "
                    "(IHP_MAX_IMAGE_PIXELS)"
                )
            if max(image.size) > MOST_SIDE:
                raise ImageError(f"the image has {width} x {height} pixels; expected at most {MOST_SIDE} on a side")
            orientation = _orientation(image)
            pixels = plain_jpeg(image, data)
            if pixels is None:
                pixels = _rgb(image)
        del image  # what it holds is as large as a turned copy
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"the file is not an image: {_resemblance(data)}") from None
    except Exception as error:
        # On damaged files Pillow raises nearly everything: OSError, SyntaxError, struct.error, KeyError ...
        reason = str(error) or type(error).__name__
        raise ImageError(f"the image is truncated or damaged: {reason[:200]}") from error
    return np.ascontiguousarray(_TURNS[orientation](pixels) if orientation > 1 else pixels, np.uint8)


def plain_jpeg(image: Image.Image, data: bytes) -> NDArray[np.uint8] | None:
    """Decodes a grey or coloured JPEG with OpenCV: the same pixels in two thirds of the time.

    OpenCV fills up a truncated file without a word, so only one with an end may come here.
    """
    if image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB"):
        return None
    if not data.endswith(b"\xff\xd9"):
        return None
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _CV2_FLAGS)
    except cv2.error:
        return None
    if pixels is None or pixels.shape != (image.height, image.width, 3):
        return None
    return np.asarray(pixels, np.uint8)


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        return _grey(np.asarray(image))
    image.load()
    out = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):  # in strips: the whole, several times over, is a lot of memory
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        if image.has_transparency_data:
            strip.info.update(image.info)
            coloured = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
        out[top : top + rows] = np.asarray(strip.convert("RGB"))
    return out


def _grey(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """Scales (H, W) grey of more than 8 bits to RGB."""
    low, high = 0.0, 65535.0
    if grey.dtype.itemsize > 2:
        least, most = float(grey.min()), float(grey.max())
        if not np.isfinite((least, most)).all():
            raise ImageError("the image has pixels that are not numbers")
        if not (least >= 0 and 255 < most <= high):
            low, high = least, most  # 32-bit pixels have no agreed range
    scale = 255 / (high - low) if high > low else 0.0
    out = np.empty((*grey.shape, 3), np.uint8)
    rows = max(1, STRIP // grey.shape[1])
    for top in range(0, len(grey), rows):
        values = grey[top : top + rows].astype(np.float32)
        out[top : top + rows] = np.rint((values - low) * scale)[..., None]
    return out


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 to 8.

    Read from the EXIF block alone, as browsers do; Pillow would take it from XMP, too. Pillow turns TIFF
    files itself.
    """
    block = image.info.get("exif")
    if image.format == "TIFF" or not block:
        return 1
    try:
        exif = Image.Exif()
        exif.load(block)
        value = exif.get(_ORIENTATION, 1)
    except Exception:
        return 1  # a broken block is no reason to refuse the photo
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _resemblance(data: bytes) -> str:
    head = data[:64].lstrip().lower()
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "it is a HEIC photo, which browsers do not show; convert it to JPEG"
    if head.startswith((b"<svg", b"<?xml")):
        return "it is an SVG drawing or other XML; export it as PNG"
    if head.startswith(b"<"):
        return "it is a web page, perhaps one that asks to log in"
    return f"it begins with {data[:16]!r}; expected {', '.join(FORMATS)}"
