"""Images whose decoding may take minutes are decoded apart, within limits; all others where they are asked for."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ihp_backend.label_studio import decoding_process, image_decoding
from ihp_backend.label_studio.decoding_process import Work, decode_apart
from ihp_backend.label_studio.image_decoding import STRIP, ImageError, decode_image


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
    assert not Work.of(data, 10**8).is_apart


@pytest.mark.parametrize("data", [encoded("TIFF"), bmp_with_run_lengths(50, 40), plain_ppm(20, 10)])
def test_what_may_take_long_is_decoded_apart_to_the_same_pixels(data: bytes) -> None:
    assert Work.of(data, 10**8).is_apart
    apart = decode_apart(data, max_pixels=10**6, pixels=2000)
    np.testing.assert_array_equal(apart, decode_image(data, max_pixels=10**6))


def test_scans_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_process, "MOST_WORK", 200 * 64 * 64)
    assert not Work.of(jpeg_of_many_scans(10), 10**8).is_apart
    assert Work.of(jpeg_of_many_scans(100), 10**8).is_apart


def chunk(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def directory(entries: int, each: int) -> bytes:
    """An EXIF block whose entries all point to the same bytes, of so many megabytes together."""
    listed = b"".join(struct.pack("<HHII", 300 + n, 7, each, 8) for n in range(entries))
    return b"II*\0" + struct.pack("<IH", 8, entries) + listed + bytes(4 + each)


def inserted(kind: str, piece: bytes) -> bytes:
    data = encoded(kind)
    at = {"PNG": 33, "JPEG": 2, "GIF": data.index(b"\x2c")}[kind]
    return data[:at] + piece + data[at:]


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", 2 + len(content)) + content


PIECES = {
    "PNG, chunks before the pixels": inserted("PNG", chunk(b"teSt") * 200_000),
    "PNG, chunks behind them": encoded("PNG")[:-12] + chunk(b"teSt") * 200_000 + chunk(b"IEND"),
    "JPEG, empty segments": inserted("JPEG", segment(0xE5, b"") * 200_000),
    "JPEG, filling": inserted("JPEG", b"\xff" * 400_000),
    "GIF, comments": inserted("GIF", b"\x21\xfe\x01a\0" * 200_000),
    "PPM, a comment": b"P6\n#" + b"a" * 400_000 + b"\n1 1\n255\n\0\0\0",
    "TIFF, a long directory": b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 10**6) + bytes(20) * 200_000,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PIECES)
def test_millions_of_pieces_are_not_read(name: str) -> None:
    """Each takes a minute at the size of a file that may be uploaded."""
    reads = 0

    class Read(image_decoding.Counted):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal reads
            reads += 1
            return super().read(size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_decoding, "Counted", Read)
        with pytest.raises(ImageError, match=r"more pieces than any photo|truncated or damaged|not an image"):
            decode_image(PIECES[name], max_pixels=10**8)
        patch.setattr(decoding_process, "Counted", Read)
        Work.of(PIECES[name], 10**8)
    assert reads < 210_000


@pytest.mark.filterwarnings("ignore")
def test_what_many_entries_share_is_not_copied_for_each() -> None:
    tracemalloc.start()
    try:
        assert Work.of(directory(2_000, 1_000_000), 10**8) == Work(0)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_photo_in_many_pieces_is_read() -> None:
    data = encoded("PNG", (2000, 1500))
    begin, pixels = data.index(b"IDAT") - 4, b""
    at = begin
    while data[at + 4 : at + 8] == b"IDAT":
        (length,) = struct.unpack_from(">I", data, at)
        pixels, at = pixels + data[at + 8 : at + 8 + length], at + 12 + length
    pieces = b"".join(chunk(b"IDAT", pixels[start : start + 4096]) for start in range(0, len(pixels), 4096))
    small = data[:begin] + pieces + data[at:]
    np.testing.assert_array_equal(decode_image(small, max_pixels=10**8), decode_image(data, max_pixels=10**8))


DIRECTORIES = {
    "PNG": inserted("PNG", chunk(b"eXIf", directory(200, 1_000_000))),
    "JPEG, EXIF": inserted("JPEG", segment(0xE1, b"Exif\0\0" + directory(3_000, 20_000))),
    "JPEG, twice": inserted("JPEG", 2 * segment(0xE1, b"Exif\0\0" + directory(200, 60_000))),
    "JPEG, several pictures": inserted("JPEG", segment(0xE2, b"MPF\0" + directory(3_000, 20_000))),
    "WebP": encoded("WEBP", exif=directory(200, 1_000_000)),
}


@pytest.mark.parametrize("name", DIRECTORIES)
def test_long_directories_are_read_apart_where_memory_ends(name: str) -> None:
    tracemalloc.start()
    try:
        assert Work.of(DIRECTORIES[name], 10**8) == Work(10**8, 7 * 10**8 + 20 * STRIP, is_apart=True)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_usual_directories_are_read_here(kind: str) -> None:
    assert not Work.of(encoded(kind, exif=directory(50, 1_000)), 10**8).is_apart


def test_a_bomb_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_process, "BASE_S", 0.5)
    monkeypatch.setattr(decoding_process, "S_A_PIXEL", 0.0)
    began = time.monotonic()
    with pytest.raises(ImageError, match="takes longer than"):
        decode_apart(bmp_with_run_lengths(9900, 9900), max_pixels=10**8, pixels=98_010_000)
    assert time.monotonic() - began < 10


def test_a_process_that_waits_for_ever_ends_by_the_clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\nexec sleep 20\n")
    sleeper.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    monkeypatch.setattr(decoding_process, "BASE_S", 0.2)
    began = time.monotonic()
    with pytest.raises(ImageError, match="takes longer than"):
        decode_apart(encoded("TIFF"), max_pixels=10**6, pixels=2400)
    assert time.monotonic() - began < 10


GREEDY = """
import sys, time
import numpy
from ihp_backend.label_studio import decoding_process

def decode_image(data, *, max_pixels):
    taken, until = bytearray({size}), time.process_time() + {seconds}
    while time.process_time() < until:
        pass
    return numpy.zeros((1, 1, 3), numpy.uint8)

decoding_process.decode_image = decode_image
sys.argv = ["", "1000", "3"]
decoding_process.main()
"""


@pytest.mark.parametrize(
    ("size", "seconds", "is_answered"),
    [(100_000_000, 0, True), (3_000_000_000, 0, False), (0, 8, False)],
    ids=["little", "memory", "time"],
)
def test_a_process_that_takes_more_than_any_image_fails(size: int, seconds: int, is_answered: bool) -> None:
    code = GREEDY.format(size=size, seconds=seconds)
    done = subprocess.run([sys.executable, "-c", code], input=b"", capture_output=True, check=False, timeout=120)
    assert (done.returncode == 0) is is_answered
    assert bool(done.stdout) is is_answered


@pytest.mark.parametrize("kind", ["ICO", "PCX", "TGA", "EPS", "SGI", "JPEG2000", "DDS", "ICNS"])
def test_formats_that_have_no_business_here_are_no_images(kind: str) -> None:
    """Pillow reads them, and would start another program for one of them."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, kind)
    assert Work.of(file.getvalue(), 10**8) == Work(0)
    with pytest.raises(ImageError, match="not an image"):
        decode_image(file.getvalue(), max_pixels=10**8)


def test_a_reason_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match="truncated or damaged"):
        decode_apart(encoded("TIFF")[:2000], max_pixels=10**6, pixels=2400)
    with pytest.raises(ImageError, match="expected at most 100 in all"):
        decode_apart(encoded("TIFF"), max_pixels=100, pixels=2400)


@pytest.mark.parametrize("size", [(65_536, 1), (1, 65_536)])
def test_an_image_of_a_pixel_to_the_row_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    """Millions of rows took gigabytes, and half a minute."""
    file = io.BytesIO()
    Image.new("L", size).save(file, "PNG")
    assert Work.of(file.getvalue(), 10**8) == Work(0)
    with pytest.raises(ImageError, match="at most 65535 on a side"):
        decode_image(file.getvalue(), max_pixels=10**8)
