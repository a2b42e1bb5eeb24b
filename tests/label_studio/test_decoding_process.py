"""Images whose decoding may take minutes are decoded apart, within limits; all others where they are asked for."""

from __future__ import annotations

import io
import struct
import time

import numpy as np
import pytest
from PIL import Image

from ihp_backend.label_studio import decoding_process
from ihp_backend.label_studio.decoding_process import decode_apart, is_harmless
from ihp_backend.label_studio.image_decoding import ImageError, decode_image


def encoded(kind: str, size: tuple[int, int] = (60, 40), **options: object) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(file, kind, **options)
    return file.getvalue()


def bmp_with_run_lengths(width: int, height: int) -> bytes:
    """Of a few kilobytes, however large it is."""
    rows = b"\x01\x01\x00\x00" * height + b"\x00\x01"
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(rows), 0, 0, 256, 0)
    begin = 14 + len(head) + 1024
    return b"BM" + struct.pack("<IHHI", begin + len(rows), 0, 0, begin) + head + bytes(1024) + rows


def plain_ppm(width: int, height: int) -> bytes:
    return b"P3 %d %d 255 " % (width, height) + b"1 " * (3 * width * height)


def jpeg_of_many_scans(scans: int) -> bytes:
    """A head that tells more pixels than there are, and a scan again and again."""
    data = encoded("JPEG", (64, 64), progressive=True)
    begin = data.index(b"\xff\xda")
    return data[:begin] + data[begin:-2] * scans + b"\xff\xd9"


@pytest.mark.parametrize(
    "data",
    [
        *(encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")),
        encoded("JPEG", (1024, 768), progressive=True),
        b"no image",
    ],
)
def test_usual_photos_are_decoded_where_they_are_asked_for(data: bytes) -> None:
    assert is_harmless(data, 10**8)


@pytest.mark.parametrize("data", [encoded("TIFF"), bmp_with_run_lengths(50, 40), plain_ppm(20, 10)])
def test_what_may_take_long_is_decoded_apart_to_the_same_pixels(data: bytes) -> None:
    assert not is_harmless(data, 10**8)
    apart = decode_apart(data, max_pixels=10**6, pixels=2000)
    np.testing.assert_array_equal(apart, decode_image(data, max_pixels=10**6))


def test_scans_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_process, "MOST_WORK", 200 * 64 * 64)
    assert is_harmless(jpeg_of_many_scans(10), 10**8)
    assert not is_harmless(jpeg_of_many_scans(100), 10**8)


def test_a_bomb_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_process, "BASE_S", 0.5)
    monkeypatch.setattr(decoding_process, "S_A_PIXEL", 0.0)
    began = time.monotonic()
    with pytest.raises(ImageError, match="takes longer than"):
        decode_apart(bmp_with_run_lengths(9900, 9900), max_pixels=10**8, pixels=98_010_000)
    assert time.monotonic() - began < 10


def test_a_reason_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match="truncated or damaged"):
        decode_apart(encoded("TIFF")[:2000], max_pixels=10**6, pixels=2400)
    with pytest.raises(ImageError, match="expected at most 100 in all"):
        decode_apart(encoded("TIFF"), max_pixels=100, pixels=2400)
