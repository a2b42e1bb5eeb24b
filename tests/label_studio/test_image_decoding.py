from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from ihp_backend.label_studio import image_decoding
from ihp_backend.label_studio.image_decoding import ImageError, decode_image

LIMIT = 1_000_000


def encoded(image: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def colours(height: int = 24, width: int = 40) -> NDArray[np.uint8]:
    """A smooth picture in which no turn looks like another, and which JPEG keeps well."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + 2 * y) % 64 + 60], axis=2).astype(np.uint8)


def png_chunks(height: int, width: int, depth: int, colour_type: int, rows: bytes, **extra: bytes) -> bytes:
    """A PNG written by hand: Pillow does not write all kinds."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    others = b"".join(chunk(name.encode(), body) for name, body in extra.items())
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + others
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_turned_as_exif_says(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(colours(), kind, exif=exif, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert np.array_equal(decode_image(data, max_pixels=LIMIT), expected)
    assert expected.shape == ((24, 40, 3) if orientation < 5 else (40, 24, 3))


def test_orientation_6_puts_the_top_left_pixel_top_right() -> None:
    stored = np.zeros((4, 6, 3), np.uint8)
    stored[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # "the 0th row is the right-hand side"
    turned = decode_image(encoded(stored, "PNG", exif=exif), max_pixels=LIMIT)
    assert turned.shape == (6, 4, 3)
    assert np.argwhere(turned[..., 0]).tolist() == [[0, 3]]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("block", [b"Exif\0\0broken", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x"])
def test_a_broken_exif_block_is_no_reason_to_refuse(block: bytes) -> None:
    data = encoded(colours(), "JPEG", exif=block)
    assert decode_image(data, max_pixels=LIMIT).shape == (24, 40, 3)


def test_orientation_in_xmp_is_ignored_as_browsers_do() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    assert decode_image(encoded(colours(), "JPEG", xmp=xmp), max_pixels=LIMIT).shape == (24, 40, 3)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 40}])
@pytest.mark.parametrize("size", [(24, 40), (37, 51), (1, 1)])
@pytest.mark.parametrize("grey", [False, True])
def test_both_paths_agree(
    size: tuple[int, int], grey: bool, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*size, 3), np.uint8)
    data = encoded(Image.fromarray(pixels).convert("L" if grey else "RGB"), "JPEG", **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image_decoding.plain_jpeg(image, data) is not None
    fast = decode_image(data, max_pixels=LIMIT)
    monkeypatch.setattr(image_decoding, "plain_jpeg", lambda *_: None)
    slow = decode_image(data, max_pixels=LIMIT)
    assert np.abs(fast.astype(int) - slow).max() <= 1  # different builds of the codec may round differently


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "RGB", "CMYK", "YCbCr"])
def test_opaque_modes_look_the_same(mode: str) -> None:
    original = Image.fromarray(colours()).convert("L").convert("RGB")
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    image = original.convert(mode, dither=Image.Dither.NONE)
    decoded = decode_image(encoded(image, kind), max_pixels=LIMIT)
    expected = np.asarray(image.convert("RGB"))
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    assert np.abs(decoded.astype(int) - expected).max() <= 1


def test_alpha_is_put_on_white() -> None:
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 0] = 200
    rgba[0, :, 3] = [0, 128, 255]
    decoded = decode_image(encoded(rgba, "PNG"), max_pixels=LIMIT)
    half = [255 + (value - 255) * 128 / 255 for value in (200, 0, 0)]
    assert np.abs(decoded[0] - np.array([[255, 255, 255], half, [200, 0, 0]])).max() <= 1


def test_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    for transparency in (0, b"\0\xff"):
        for kind in ("PNG", "GIF") if transparency == 0 else ("PNG",):
            decoded = decode_image(encoded(image, kind, transparency=transparency), max_pixels=LIMIT)
            assert decoded.tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_transparent_colour_of_grey_and_rgb_is_white() -> None:
    grey = png_chunks(1, 2, 8, 0, bytes([0, 7, 9]), tRNS=struct.pack(">H", 7))
    assert decode_image(grey, max_pixels=LIMIT)[0].tolist() == [[255] * 3, [9] * 3]
    rgb = png_chunks(1, 2, 8, 2, bytes([0, 1, 2, 3, 4, 5, 6]), tRNS=struct.pack(">HHH", 1, 2, 3))
    assert decode_image(rgb, max_pixels=LIMIT)[0].tolist() == [[255] * 3, [4, 5, 6]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled(kind: str) -> None:
    values = np.array([[0, 257, 1000, 32768, 65535]], np.uint16)
    decoded = decode_image(encoded(values, kind), max_pixels=LIMIT)
    assert np.abs(decoded[0, :, 0] - values[0] / 257).max() <= 1
    assert (decoded == decoded[..., :1]).all()


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_is_scaled(colour_type: int, channels: int) -> None:
    values = np.array([0, 1000, 32768, 50000, 65535], ">u2")
    pixels = np.repeat(values[:, None], channels, axis=1)
    if channels in (2, 4):
        pixels[:, -1] = 65535
    rows = b"\0" + pixels.tobytes()
    decoded = decode_image(png_chunks(1, 5, 16, colour_type, rows), max_pixels=LIMIT)
    assert np.abs(decoded[0] - (values / 257)[:, None]).max() <= 1


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_grey_is_stretched(dtype: Any) -> None:
    values = np.array([[-100000, 0, 100000]], dtype)
    decoded = decode_image(encoded(values, "TIFF"), max_pixels=LIMIT)
    assert np.abs(decoded[0, :, 0].astype(int) - [0, 128, 255]).max() <= 1
    assert not decode_image(encoded(values * 0, "TIFF"), max_pixels=LIMIT).any()


def test_pixels_that_are_not_numbers() -> None:
    with pytest.raises(ImageError, match="not numbers"):
        decode_image(encoded(np.full((2, 2), np.nan, np.float32), "TIFF"), max_pixels=LIMIT)


def test_cmyk_jpeg_has_its_adobe_inversion_undone() -> None:
    original = Image.fromarray(colours())
    data = encoded(original.convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    decoded = decode_image(data, max_pixels=LIMIT)
    assert np.abs(decoded.astype(int) - np.asarray(original)).mean() < 5


def test_of_several_frames_the_first() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "MPO"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.abs(decode_image(data, max_pixels=LIMIT)[4, 4] - np.array([255, 0, 0])).max() < 10, kind


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow does not read AVIF")
def test_avif() -> None:
    decoded = decode_image(encoded(colours(), "AVIF", quality=90), max_pixels=LIMIT)
    assert np.abs(decoded.astype(int) - colours()).mean() < 8


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>hello</html>", "not an image: it is a web page"),
        (b"hello, world", "not an image: it begins with b'hello, world'; expected JPEG, PNG"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC photo, which browsers do not show"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image: it is an SVG"),
        (b"\xff\xd8\xff", "not an image|damaged"),
        (b"\x89PNG\r\n\x1a\n", "not an image|damaged"),
    ],
)
def test_not_an_image(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode_image(data, max_pixels=LIMIT)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated(kind: str, part: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(pixels, kind)
    with pytest.raises(ImageError, match=r"truncated or damaged|not an image"):
        decode_image(data[: int(len(data) * part)], max_pixels=LIMIT)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_is_told(progressive: bool) -> None:
    data = encoded(colours(), "JPEG", progressive=progressive)
    for length in range(len(data) - 2):
        with pytest.raises(ImageError):
            decode_image(data[:length], max_pixels=LIMIT)


def test_too_many_pixels_are_refused_before_memory_is_taken() -> None:
    bomb = png_chunks(30000, 30000, 8, 2, b"")
    for limit in (LIMIT, 10**12):
        with pytest.raises(ImageError, match=r"30000 x 30000 pixels|bomb|damaged"):
            decode_image(bomb, max_pixels=limit)
    data = encoded(colours(), "PNG")
    assert decode_image(data, max_pixels=24 * 40).shape == (24, 40, 3)
    with pytest.raises(ImageError, match="40 x 24 pixels; expected at most 959"):
        decode_image(data, max_pixels=24 * 40 - 1)


_SEEDS = [encoded(colours(), kind) for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP")]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about what was damaged
@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(_SEEDS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=5),
    st.floats(0, 1),
)
def test_damaged_files_give_an_image_or_an_image_error(
    data: bytes, damages: list[tuple[float, bytes]], length: float
) -> None:
    damaged = bytearray(data)
    for place, patch in damages:
        start = int(place * len(damaged))
        damaged[start : start + len(patch)] = patch
    try:
        pixels = decode_image(bytes(damaged[: round(length * len(damaged))]), max_pixels=LIMIT)
    except ImageError:
        return
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.dtype == np.uint8
    assert pixels.shape[0] * pixels.shape[1] <= LIMIT


@pytest.mark.parametrize(("kind", "head"), [("zTXt", b"a\0\0"), ("iTXt", b"a\0\1\0\0\0"), ("iCCP", b"a\0\0")])
def test_what_lies_beside_the_pixels_does_not_become_much_memory(kind: str, head: bytes) -> None:
    bomb = png_chunks(6, 8, 8, 2, bytes(6 * 25), **{kind: head + zlib.compress(bytes(60_000_000))})
    tracemalloc.start()
    try:
        with suppress(ImageError):
            decode_image(bomb, max_pixels=1000)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()
