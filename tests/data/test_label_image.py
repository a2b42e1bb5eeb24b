"""Label images in other conventions are refused by name, never read as something else."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.data.label_image import read_label_image
from ihp_backend.data.sample import DataError, read_sample
from ihp_backend.parts import LIP, Part, Schema

GLOVE = Schema("open", "one class", (Part("background", "#000000"), Part("glove", "#c82828")))
GLOVES = Schema(
    "open", "two classes", (Part("background", "#000000"), Part("glove", "#c82828"), Part("hat", "#2828c8"))
)
MASK = np.zeros((24, 18), np.uint8)
MASK[4:20, 3:12] = 1


def read(image: Image.Image, path: Path, schema: Schema = GLOVES, ending: str = "") -> NDArray[np.uint8]:
    file = path / f"a.{ending or ('tiff' if image.mode in 'IF' else 'png')}"
    image.save(file)
    return read_label_image(file, schema)


@pytest.mark.parametrize("schema", [GLOVE, GLOVES, LIP])
@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_mask_of_0_and_255_has_no_class(schema: Schema, mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(MASK * 255)
    if mode == "P":
        image.putpalette([c for i in range(256) for c in (i, i, i)])
    with pytest.raises(ValueError, match=r"nothing but 0 and 255.*255 means pixels to ignore"):
        read(image if mode == "P" else image.convert(mode), tmp_path, schema)


@pytest.mark.parametrize("white", [1, 0])
def test_a_mask_of_0_and_255_that_a_program_made_smaller(white: int, tmp_path: Path) -> None:
    """Such as optipng: 255 becomes 1 of a palette of two, which would be the first class."""
    image = Image.fromarray(MASK, "P")
    image.putpalette([c for i in (0, 1) for c in [255 * (i == white)] * 3])
    with pytest.raises(ValueError, match=r"black and white.*has 3"):
        read(image, tmp_path, GLOVES)
    assert np.array_equal(read(image, tmp_path, GLOVE), MASK)
    image.putpalette([0, 0, 0, 200, 40, 40])
    assert np.array_equal(read(image, tmp_path, GLOVES), MASK)


def test_the_sample_and_its_file_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((24, 18, 3), np.uint8)).save(tmp_path / "photo.png")
    Image.fromarray(MASK * 255).save(tmp_path / "label.png")
    with pytest.raises(DataError, match=r"sample 'me': .*label\.png has nothing but 0 and 255"):
        read_sample("me", tmp_path / "photo.png", tmp_path / "label.png", GLOVE)


def test_255_beside_classes_is_ignored(tmp_path: Path) -> None:
    labels = MASK.copy()
    labels[0] = 255
    assert np.array_equal(read(Image.fromarray(labels), tmp_path), labels)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16", "I", "F", "bool"])
def test_ids_are_read_from_any_kind_of_png_and_tiff(mode: str, tmp_path: Path) -> None:
    if mode in ("1", "bool"):
        image = Image.fromarray(MASK.astype(bool))
    elif mode == "P":
        image = Image.fromarray(MASK, "P")
        image.putpalette([0, 0, 0, 200, 40, 40, 40, 40, 200])
    elif mode == "RGB":
        image = Image.fromarray(np.repeat(MASK[..., None], 3, axis=2))
    else:
        image = Image.fromarray(MASK.astype({"L": np.uint8, "I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    found = read(image, tmp_path, GLOVE)
    assert found.dtype == np.uint8
    assert np.array_equal(found, MASK)


@pytest.mark.parametrize(
    ("image", "schema", "expected"),
    [
        (Image.fromarray(MASK.astype(bool)), GLOVES, "black and white.*has 3"),
        (Image.fromarray(MASK * 127), GLOVES, r"ids \[127\].*0 to 2"),
        (Image.fromarray(MASK.astype(np.uint16) * 65535), GLOVES, r"ids \[65535\]"),
        (Image.fromarray(MASK.astype(np.int32) * -1), GLOVES, r"ids \[-1\]"),
        (Image.fromarray(MASK + np.uint8(254)), LIP, r"ids \[254\]"),
        (Image.fromarray(np.dstack([MASK * 200, MASK * 40, MASK * 40])), GLOVES, "colours.*one channel"),
        (Image.fromarray(np.dstack([MASK, MASK * 255])), GLOVES, "one channel"),
        (Image.new("L", (18, 24), 255), GLOVES, "no pixel that is not ignored"),
    ],
)
def test_what_no_class_has_is_told(image: Image.Image, schema: Schema, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=expected):
        read(image, tmp_path, schema)


def test_halves_are_no_ids(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no whole numbers"):
        read(Image.fromarray(MASK.astype(np.float32) / 2), tmp_path)


@pytest.mark.parametrize(("ending", "kind"), [("jpg", "JPEG"), ("webp", "WEBP")])
def test_a_lossy_file_has_other_ids_than_were_written(ending: str, kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{kind} file, which changes ids.*expected PNG"):
        read(Image.fromarray(MASK), tmp_path, LIP, ending)


def test_a_palette_in_another_order_than_the_classes(tmp_path: Path) -> None:
    """As programs make them that count colours: the index says nothing, the colour means the class."""
    image = Image.fromarray(MASK, "P")
    image.putpalette([0, 0, 0, 40, 40, 200, 200, 40, 40])
    with pytest.raises(ValueError, match="index 1 has the colour of class 2, 'hat'"):
        read(image, tmp_path)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])  # colours of its own
    assert np.array_equal(read(image, tmp_path), MASK)


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_is_read_in_two_ways(bits: int, tmp_path: Path) -> None:
    """Pillow scales 1 of 15 to 17, which is another part of LIP; others do not."""
    rows = [
        bytes([0]) + np.packbits(np.unpackbits(row[:16, None], axis=1)[:, 8 - bits :].ravel()).tobytes() for row in MASK
    ]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 16, 24, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(ValueError, match=f"{bits} bits a pixel.*expected 8"):
        read_label_image(tmp_path / "a.png", LIP)


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_image_is_told(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match="not a readable image"):
        read_label_image(tmp_path / "a.png", LIP)
