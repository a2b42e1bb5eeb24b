"""A region's mask, whichever of the two kinds it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle
from numpy.typing import NDArray

from ihp_backend.cache import LoadingCache
from ihp_backend.label_studio import mask_values
from ihp_backend.label_studio.mask_values import (
    BITMASK,
    BRUSH,
    OUTPUTS,
    POLYGON,
    RECTANGLE,
    MaskError,
    decode,
    decode_packed,
    encode,
    holds_mask,
    label_of,
)

MASK = np.zeros((4, 6), bool)
MASK[1:3, 2:5] = True


def region(kind: str, **value: Any) -> dict[str, Any]:
    (of_mask,) = encode(MASK, "Face", kind)
    return {"type": kind, "value": of_mask | value}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_what_is_written_is_read(kind: str) -> None:
    assert np.array_equal(decode(region(kind), 4, 6), MASK)
    assert label_of(region(kind)) == "Face"
    assert holds_mask(region(kind)["value"])


def test_brush_regions_are_those_of_the_sdk() -> None:
    rle = region(BRUSH)["value"]["rle"]
    assert np.array_equal(decode_rle(rle).reshape(4, 6, 4)[..., 3], MASK * 255)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (region(BRUSH, rle=[1, 2]), "RLE"),
        (region(BITMASK, imageDataURL="x"), "bitmask begins"),
        ({"type": BITMASK, "value": None}, "bitmask begins with 'None'"),
        (region(POLYGON, points=[[1, 2], [3, 4]]), "2 points"),
        ({"type": POLYGON}, "NoneType"),
        (region(RECTANGLE, width=None), "expected the numbers"),
        ({"type": BITMASK, "value": region(BRUSH)["value"]}, "bitmask begins with 'None'"),
    ],
)
def test_what_cannot_be_read_says_why(broken: dict[str, Any], expected: str) -> None:
    with pytest.raises(MaskError, match=expected):
        decode(broken, 4, 6)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was decoded and not remembered."""
    seen: list[dict[str, Any]] = []

    def counted(region: dict[str, Any], height: int, width: int) -> NDArray[np.bool_]:
        seen.append(region)
        return decode(region, height, width)

    monkeypatch.setattr(mask_values, "decode", counted)
    monkeypatch.setattr(mask_values, "KNOWN", LoadingCache(2**20, lambda mask: mask.bits.nbytes))
    return seen


@pytest.mark.parametrize(("kind", "times"), [(BRUSH, 1), (BITMASK, 1), (POLYGON, 3), (RECTANGLE, 3)])
def test_a_mask_that_is_sent_again_is_not_decoded_again(kind: str, times: int, decoded: list[dict[str, Any]]) -> None:
    for _ in range(3):
        assert np.array_equal(decode_packed(region(kind), 4, 6).unpacked(), MASK)
    assert len(decoded) == times, "the corners of an outline are quicker read than remembered"


@pytest.mark.parametrize("kind", [BRUSH, BITMASK])
def test_one_pixel_more_is_another_mask(kind: str, decoded: list[dict[str, Any]]) -> None:
    decode_packed(region(kind), 4, 6)
    for row, column in np.argwhere(~MASK):
        more = MASK.copy()
        more[row, column] = True
        (value,) = encode(more, "Face", kind)
        assert np.array_equal(decode_packed({"type": kind, "value": value}, 4, 6).unpacked(), more)
    assert len(decoded) == 1 + (~MASK).sum()


@pytest.mark.parametrize("kind", [BRUSH, BITMASK])
def test_a_remembered_mask_is_none_for_a_photo_of_another_size(kind: str, decoded: list[dict[str, Any]]) -> None:
    decode_packed(region(kind), 4, 6)
    for _ in range(2):
        with pytest.raises(MaskError):
            decode_packed(region(kind), 6, 8)
    assert len(decoded) == 3, "what cannot be read is not remembered"


@pytest.mark.parametrize(
    "broken", [{"type": BITMASK, "value": {"imageDataURL": 3}}, {"type": BRUSH, "value": {"rle": "x"}}, {"type": BRUSH}]
)
def test_what_is_no_mask_at_all_is_refused_before_it_is_looked_up(broken: dict[str, Any]) -> None:
    with pytest.raises(MaskError):
        decode_packed(broken, 4, 6)


def test_a_label_is_that_of_the_regions_type() -> None:
    assert label_of({"type": BITMASK, "value": {"brushlabels": ["Face"]}}) == ""
    assert label_of({"type": BRUSH, "value": {"brushlabels": [3]}}) == ""
    assert label_of({"value": [1]}) == ""
    assert not holds_mask({"x": 1.0, "keypointlabels": ["Face"]})
