"""A region's mask, whichever of the two kinds it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle

from ihp_backend.label_studio.mask_values import (
    BITMASK,
    BRUSH,
    OUTPUTS,
    POLYGON,
    RECTANGLE,
    MaskError,
    decode,
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


def test_a_label_is_that_of_the_regions_type() -> None:
    assert label_of({"type": BITMASK, "value": {"brushlabels": ["Face"]}}) == ""
    assert label_of({"type": BRUSH, "value": {"brushlabels": [3]}}) == ""
    assert label_of({"value": [1]}) == ""
    assert not holds_mask({"x": 1.0, "keypointlabels": ["Face"]})
