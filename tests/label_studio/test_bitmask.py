"""Bitmasks: read by another decoder, and written by others."""

from __future__ import annotations

import base64
import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.label_studio.bitmask import BitmaskError, decode, encode

masks = arrays.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))


def url_of(image: Image.Image, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@settings(deadline=None)
@given(masks)
def test_another_decoder_reads_what_we_write_and_so_do_we(mask: NDArray[np.bool_]) -> None:
    url = encode(mask)
    pixels = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    read = np.asarray(cv2.imdecode(pixels, cv2.IMREAD_UNCHANGED))
    assert np.array_equal(read[..., 3], mask * 255)
    assert np.array_equal(decode(url, *mask.shape), mask)


def test_a_large_mask_is_small() -> None:
    mask = np.zeros((3000, 4000), bool)
    cv2.circle(mask.view(np.uint8), (2000, 1500), 900, 1, -1)
    assert len(encode(mask)) < 20_000


def test_what_a_browser_writes_is_read_by_its_alpha() -> None:
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[1:3, 2:5, 3] = 255  # black where the mask is
    assert np.array_equal(decode(url_of(Image.fromarray(pixels)), 4, 6), pixels[..., 3] > 0)
    grey = Image.fromarray(pixels[..., 2:], "LA")
    assert np.array_equal(decode(url_of(grey), 4, 6), pixels[..., 3] > 0)
    rgb = Image.fromarray(pixels[..., :3])
    assert decode(url_of(rgb), 4, 6).all()  # without alpha the browser paints the whole photo
    keyed = url_of(rgb, transparency=(0, 0, 0))
    assert not decode(keyed, 4, 6).any()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (None, "begins with 'None'; expected data:image/png;base64,"),
        (7, "begins with '7'"),
        ("http://127.0.0.1/mask.png", "begins with 'http://127.0.0.1/mask.png'"),
        ("data:image/jpeg;base64,AAAA", "begins with 'data:image/jpeg"),
        ("data:image/png;base64,%%%%", "no PNG that can be read"),
        ("data:image/png;base64,AAAA", "no PNG that can be read"),
        ("data:image/png;base64," + "A" * 10_000, "too many for 6x4 pixels"),
        (url_of(Image.new("RGBA", (6, 5))), "is 6x5; expected the photo's 6x4 pixels"),
        (url_of(Image.new("RGBA", (6, 4)))[:-60], "no PNG that can be read"),
    ],
)
def test_what_is_no_bitmask_is_refused_with_its_reason(url: object, expected: str) -> None:
    with pytest.raises(BitmaskError, match=expected):
        decode(url, 4, 6)


def test_a_bomb_is_refused_by_its_size_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = url_of(Image.new("1", (20_000, 20_000)))
    monkeypatch.setattr(Image.Image, "convert", None)
    with pytest.raises(BitmaskError, match="20000x20000"):
        decode(bomb, 4000, 3000)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_do_harm(data: bytes) -> None:
    with pytest.raises(BitmaskError):
        decode("data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + data).decode(), 4, 6)
