"""The brush codec against the SDK's: the same bytes' meaning, both ways, on any mask."""

from __future__ import annotations

import contextlib
import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_studio_sdk.converter import brush
from numpy.typing import NDArray

from ihp_backend.label_studio.rle import THRESHOLD, RleError, decode, decode_mask, encode, longest_of

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def sdk_decode(rle: list[int], height: int, width: int) -> NDArray[np.uint8]:
    return np.asarray(brush.decode_rle(rle), np.uint8).reshape(height, width, 4)


def sdk_encode(alpha: NDArray[np.uint8]) -> list[int]:
    return list(brush.encode_rle(np.repeat(alpha.ravel(), 4)))


def strokes(seed: int, height: int = 120, width: int = 160) -> NDArray[np.uint8]:
    """Hand-drawn strokes: antialiased, some 200 values of alpha."""
    rng = np.random.default_rng(seed)
    alpha = np.zeros((height, width), np.uint8)
    points = rng.integers(0, min(height, width), (12, 2)).astype(np.int32)
    cv2.polylines(alpha, [points], False, 255, thickness=7, lineType=cv2.LINE_AA)
    return alpha


def test_a_faint_mask_is_the_mask_that_the_annotator_sees() -> None:
    """The SDK's helper writes contours with an alpha of 100; the interface shows all that is not 0."""
    alpha = np.zeros((40, 50), np.uint8)
    alpha[5:30, 8:44] = 1
    for value in (1, 2, 100, 127, 128, 255):
        assert np.array_equal(decode_mask(encode(alpha * np.uint8(value)), 40, 50), alpha > 0), value


def test_a_faint_stroke_loses_its_rim_and_nothing_else() -> None:
    alpha = strokes(3) // 2  # as strong as half a stroke
    assert np.array_equal(decode_mask(encode(alpha), *alpha.shape), alpha >= 64)


def test_a_faint_place_beside_a_strong_one_is_kept() -> None:
    """An imported mask to which the annotator has added a stroke."""
    alpha = np.zeros((60, 80), np.uint8)
    alpha[10:40, 10:40] = 100
    cv2.line(alpha, (5, 50), (70, 20), 255, 9, cv2.LINE_AA)
    mask = decode_mask(encode(alpha), 60, 80)
    assert mask[12:25, 12:25].all()
    rims = (alpha > 0) & (alpha < 128) & (alpha != 100)
    assert rims.any()
    assert not mask[rims].any()
    assert mask[alpha >= 128].all()


def test_an_empty_mask_is_empty() -> None:
    assert not decode_mask(encode(np.zeros((3, 4), bool)), 3, 4).any()


@settings(max_examples=150, deadline=None)
@given(shapes.flatmap(lambda shape: hnp.arrays(bool, shape)))
def test_the_sdk_reads_what_we_write(mask: NDArray[np.bool_]) -> None:
    values = sdk_decode(encode(mask), *mask.shape)
    assert np.array_equal(values, np.repeat(mask[..., None] * np.uint8(255), 4, axis=2))


@settings(max_examples=150, deadline=None)
@given(shapes.flatmap(lambda shape: hnp.arrays(np.uint8, shape)))
def test_we_read_what_the_sdk_writes(alpha: NDArray[np.uint8]) -> None:
    assert np.array_equal(decode(sdk_encode(alpha), *alpha.shape), alpha)
    assert np.array_equal(decode(encode(alpha), *alpha.shape), alpha)


@pytest.mark.parametrize("seed", range(5))
def test_antialiased_strokes(seed: int) -> None:
    alpha = strokes(seed)
    assert len(np.unique(alpha)) > 50
    rle = sdk_encode(alpha)
    assert np.array_equal(decode(rle, *alpha.shape), sdk_decode(rle, *alpha.shape)[..., 3])
    assert np.array_equal(sdk_decode(encode(alpha), *alpha.shape)[..., 3], alpha)
    assert np.array_equal(decode_mask(rle, *alpha.shape), alpha >= THRESHOLD)


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (1, 16384), (1, 16385), (3000, 4000), (999, 1001)])
def test_long_runs_are_split(value: bool, shape: tuple[int, int]) -> None:
    mask = np.full(shape, value)
    rle = encode(mask)
    assert all(0 <= byte <= 255 for byte in rle)
    assert np.array_equal(sdk_decode(rle, *shape)[..., 3] > 0, mask)
    assert np.array_equal(decode_mask(rle, *shape), mask)


def test_colour_channels_of_their_own_do_not_matter() -> None:
    """Some tools write RGB that differs from alpha: only alpha says what is painted."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (20, 30, 4)).astype(np.uint8)
    assert np.array_equal(decode(list(brush.encode_rle(pixels.ravel())), 20, 30), pixels[..., 3])


def test_it_is_json() -> None:
    assert json.loads(json.dumps(encode(np.eye(5, dtype=bool))))


@pytest.mark.parametrize(
    ("rle", "expected"),
    [
        ([], "header"),
        ([0, 0, 0], "header"),
        ("text", "str"),
        (None, "NoneType"),
        ([0, 0, 1, 300], "0 to 255"),
        ([0, 0, 1, "a"], "byte values"),
        ([0.5] * 20, "byte values"),
        (encode(np.ones((4, 5), bool)), "4x5"),  # of another size
        (encode(np.eye(9, dtype=bool))[:-9], "malformed"),
        ([*encode(np.ones((9, 9), bool))[:4], 0xFF, *encode(np.ones((9, 9), bool))[5:]], "words of 32 bits"),
    ],
)
def test_what_is_not_rle_is_explained(rle: object, expected: str) -> None:
    height, width = (5, 4) if expected == "4x5" else (9, 9)
    if expected == "4x5":
        height, width, expected = 6, 4, "image of 4x6"
    with pytest.raises(RleError, match=expected):
        decode(rle, height, width)  # type: ignore[arg-type]


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=80), st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_noise_never_breaks_it(data: bytes, height: int, width: int, with_header: bool) -> None:
    if with_header:  # so that it gets as far as the tokens
        data = encode_header(height, width) + data
    try:
        alpha = decode(data, height, width)
    except RleError:
        return
    assert alpha.shape == (height, width)


def encode_header(height: int, width: int) -> bytes:
    return bytes(encode(np.zeros((height, width), bool))[:6])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 500), st.data())
def test_a_flipped_byte_never_breaks_it(seed: int, data: st.DataObject) -> None:
    rle = encode(strokes(seed, 20, 24))
    rle[data.draw(st.integers(0, len(rle) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RleError):
        assert decode(rle, 20, 24).shape == (20, 24)


def test_a_stream_longer_than_its_photo_can_need_is_refused() -> None:
    stream = bytes(encode(np.zeros((4, 6), bool)))
    filled = stream + bytes(longest_of(24) - len(stream))
    assert not decode(filled, 4, 6).any(), "filling may be there"
    with pytest.raises(RleError, match="needs 4432 at most"):
        decode(filled + b"\0", 4, 6)


@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_the_worst_stream_of_any_encoder_is_not_too_long(pixels: int, seed: int) -> None:
    """Each value a token of its own, with the longest length that there is."""
    values = np.random.default_rng(seed).integers(0, 256, 4 * pixels)
    tokens = "".join(f"111{0:016b}{value:08b}" for value in values)
    bits = f"{4 * pixels:032b}{7:05b}{15:04b}{15:04b}{15:04b}{15:04b}{tokens}"
    stream = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    assert len(stream) <= longest_of(pixels)
    assert np.array_equal(decode(stream, 1, pixels)[0], values[3::4])


def test_more_runs_than_anybody_paints_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ihp_backend.label_studio.rle.MOST_RUNS", 24)
    chess = np.arange(24).reshape(4, 6) % 2 == 0
    assert np.array_equal(decode_mask(encode(chess), 4, 6), chess)
    monkeypatch.setattr("ihp_backend.label_studio.rle.MOST_RUNS", 23)
    with pytest.raises(RleError, match="more than 23 runs"):
        decode_mask(encode(chess), 4, 6)
