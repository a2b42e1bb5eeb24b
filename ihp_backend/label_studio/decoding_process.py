"""Decodes an image in a process of its own, with limits on its time and memory that hold whatever the file does.

Most photos are decoded where they are asked for: their decoders take a time that follows from their size, and let other
threads run meanwhile. A BMP with run lengths, a TIFF, or a JPEG of a thousand scans may take minutes: those come here.
"""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from threading import Timer
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.label_studio.image_decoding import FORMATS, MOST_SIDE, STRIP, Counted, ImageError, decode_image

_HEAD = struct.Struct("!II")
_TEXT = 0
"""As height: no image follows, but why there is none."""
_DIRECTORIES = ((b"Exif\0\0", 0, 6), (b"MPF\0", 0, 4), (b"eXIf", -4, 4), (b"EXIF", 4, 8))
"""Names before a directory in a JPEG, PNG and WebP; where its length is, if it may be more than 64 KB; its begin."""
_ORDER: dict[bytes, Literal["little", "big"]] = {b"eXIf": "big", b"EXIF": "little"}
_BYTES_A_PIXEL, _BYTES_OF, _BYTES_IN_WORK = 7, {"WEBP": 16, "AVIF": 10}, 20
"""Measured, of 1 to 90 megapixels: as the decoder has it and as RGB, and those of the strip in work."""
_MOST_DIRECTORY, _MOST_ENTRIES = 1 << 17, 300
_LINEAR = ("JPEG", "MPO", "PNG", "WEBP", "GIF")
_SCAN = b"\xff\xda"
MOST_WORK = 250_000_000
"""Pixels, times the scans of a JPEG: some seconds."""
_FEW_PIXELS = 1_000_000
BASE_S, S_A_PIXEL = 5.0, 1e-7
_MEMORY = 2_000_000_000


@dataclass(frozen=True)
class Work:
    """What decoding an image takes, as its head tells.

    Attributes:
        pixels: Width times height; of what cannot be looked at here, the most there may be; 0 of what is no image.
        memory: Bytes that it takes meanwhile, the pixels included.
        scans: How often a JPEG goes over them; else 1.
        is_apart: Its time does not follow from its size: it is to be decoded in another process.
    """

    pixels: int
    memory: int = 0
    scans: int = 1
    is_apart: bool = False

    @classmethod
    def of(cls, data: bytes, max_pixels: int) -> Work:
        """Looks at an image's head. What is no image, or too large, is little work: ``decode_image`` refuses it."""
        if not _has_short_directories(data):
            return cls(max_pixels, _memory(max_pixels), is_apart=True)
        try:
            with Image.open(Counted(data), formats=FORMATS) as image:
                pixels, kind, side = image.width * image.height, str(image.format), max(image.size)
        except Exception:
            return cls(0)
        if pixels > max_pixels or side > MOST_SIDE:
            return cls(0)
        scans = data.count(_SCAN) if kind in ("JPEG", "MPO") else 1
        is_plain_bmp = kind == "BMP" and data[30:34] in (b"\0\0\0\0", b"\3\0\0\0")
        is_small_avif = kind == "AVIF" and pixels <= _FEW_PIXELS
        is_harmless = (kind in _LINEAR and pixels * scans <= MOST_WORK) or is_plain_bmp or is_small_avif
        return cls(pixels, _memory(pixels, kind), scans, not is_harmless)


def _memory(pixels: int, kind: str = "") -> int:
    return _BYTES_OF.get(kind, _BYTES_A_PIXEL) * pixels + _BYTES_IN_WORK * min(pixels, STRIP)


def _has_short_directories(data: bytes) -> bool:
    """Whether the directories of EXIF and MPF are short: a reader copies what each entry points to, however large."""
    for name, length_at, begin in _DIRECTORIES:
        at = data.find(name)
        if at < 0:
            continue
        block = data[at + begin : at + begin + 8]
        order: Literal["little", "big"] = "little" if block[:2] == b"II" else "big"
        first = at + begin + int.from_bytes(block[4:8], order)
        length = int.from_bytes(data[at + length_at : at + length_at + 4], _ORDER[name]) if length_at else 0
        entries = int.from_bytes(data[first : first + 2], order)
        if data.find(name, at + 1) >= 0 or length > _MOST_DIRECTORY or entries > _MOST_ENTRIES:
            return False
    return True


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
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    try:
        with subprocess.Popen(command, env=environment, **pipes) as process:  # type: ignore[call-overload]
            alarm = Timer(4 * seconds, process.kill)
            alarm.start()
            try:
                with suppress(BrokenPipeError):  # it ended, and what it wrote says why
                    process.stdin.write(data)
                    process.stdin.close()
                return _read(process.stdout)
            finally:
                alarm.cancel()
                process.kill()
    except EOFError:
        raise _too_slow(seconds) from None
    except OSError as error:
        raise ImageError(f"the image cannot be decoded now: {error}", is_temporary=True) from None


def _read(file: IO[bytes]) -> NDArray[np.uint8]:
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise EOFError
    height, width = _HEAD.unpack(head)
    if height == _TEXT:
        raise ImageError(file.read(10_000).decode())
    image = np.empty((height, width, 3), np.uint8)
    if file.readinto(image.data.cast("B")) < image.nbytes:  # type: ignore[attr-defined]
        raise EOFError
    return image


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
