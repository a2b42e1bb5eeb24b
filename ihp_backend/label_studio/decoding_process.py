"""Decodes an image in a process of its own, with limits on its time and memory that hold whatever the file does.

Most photos are decoded where they are asked for: their decoders take a time that follows from their size, and let other
threads run meanwhile. A BMP with run lengths, a TIFF, or a JPEG of a thousand scans may take minutes: those come here.
"""

from __future__ import annotations

import io
import os
import resource
import struct
import subprocess
import sys

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.label_studio.image_decoding import FORMATS, ImageError, decode_image

_HEAD = struct.Struct("!II")
_TEXT = 0
"""As height: no image follows, but why there is none."""
_LINEAR = ("JPEG", "MPO", "PNG", "WEBP", "GIF")
_SCAN = b"\xff\xda"
MOST_WORK = 250_000_000
"""Pixels, times the scans of a JPEG: some seconds."""
_FEW_PIXELS = 1_000_000
BASE_S, S_A_PIXEL = 5.0, 1e-7
_MEMORY = 2_000_000_000


def is_harmless(data: bytes, max_pixels: int) -> bool:
    """Whether an image's decoding time follows from its size, so that it may be decoded where it is asked for.

    What is no image, or too large, is harmless: ``decode_image`` refuses it at once.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            pixels, kind = image.width * image.height, image.format
    except Exception:
        return True
    if pixels > max_pixels:
        return True
    if kind in _LINEAR:
        return pixels * max(1, data.count(_SCAN) if kind in ("JPEG", "MPO") else 1) <= MOST_WORK
    is_plain_bmp = kind == "BMP" and data[30:34] in (b"\0\0\0\0", b"\3\0\0\0")
    return is_plain_bmp or (kind == "AVIF" and pixels <= _FEW_PIXELS)


def decode_apart(data: bytes, *, max_pixels: int, pixels: int) -> NDArray[np.uint8]:
    """Decodes an image as ``decode_image`` does, in another process.

    Args:
        data: The file's bytes.
        max_pixels: Largest width times height.
        pixels: Its own, for the time that it may take.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: As ``decode_image``, or if it takes longer than its size can tell.
    """
    seconds = BASE_S + S_A_PIXEL * pixels
    command = [sys.executable, "-m", __name__, str(max_pixels), str(int(seconds) + 1)]
    try:
        done = subprocess.run(
            command,
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=4 * seconds,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired:
        raise _too_slow(seconds) from None
    except OSError as error:
        raise ImageError(f"the image cannot be decoded now: {error}", is_temporary=True) from None
    if len(done.stdout) < _HEAD.size:
        raise _too_slow(seconds)
    height, width = _HEAD.unpack_from(done.stdout)
    if height == _TEXT:
        raise ImageError(done.stdout[_HEAD.size :].decode())
    return np.frombuffer(done.stdout, np.uint8, 3 * height * width, _HEAD.size).reshape(height, width, 3)


def _too_slow(seconds: float) -> ImageError:
    return ImageError(f"the image takes longer than {seconds:.0f} s, or more memory than any; save it as PNG or JPEG")


def main() -> None:
    """Decodes what comes on standard input."""
    max_pixels, seconds = map(int, sys.argv[1:])
    os.nice(5)  # behind everybody's clicks
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    try:
        image = decode_image(sys.stdin.buffer.read(), max_pixels=max_pixels)
    except ImageError as error:
        sys.stdout.buffer.write(_HEAD.pack(_TEXT, 0) + str(error).encode("utf-8", "replace"))
    else:
        sys.stdout.buffer.write(_HEAD.pack(*image.shape[:2]))
        sys.stdout.buffer.write(image.data)


if __name__ == "__main__":
    main()
