"""COCO's run lengths, against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as oracle

from ihp_backend.data.coco import annotation_of, compressed, run_lengths


@st.composite
def masks(draw: st.DrawFn) -> NDArray[np.bool_]:
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return np.asarray(rng.random((height, width)) < draw(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0])))


@given(masks())
def test_pycocotools_reads_every_mask(mask: NDArray[np.bool_]) -> None:
    text = compressed(run_lengths(mask))
    theirs = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert text == theirs["counts"].decode()
    assert (oracle.decode({"size": list(mask.shape), "counts": text}) == mask).all()


def test_long_runs_of_a_large_photo() -> None:
    mask = np.zeros((3000, 4000), bool)
    mask[1000:2999, 17:3990] = True
    mask[2000, 2000] = False
    made = annotation_of(mask, 5, person=2)
    assert (oracle.decode(made["segmentation"]) == mask).all()
    assert made["area"] == mask.sum() == oracle.area(made["segmentation"])
    assert made["bbox"] == oracle.toBbox(made["segmentation"]).tolist() == [17, 1000, 3973, 1999]
    assert made["attributes"] == {"person": 2}


@pytest.mark.parametrize("corner", [(0, 0), (-1, -1), (0, -1)])
def test_masks_at_the_corners(corner: tuple[int, int]) -> None:
    mask = np.zeros((5, 7), bool)
    mask[corner] = True
    made = annotation_of(mask, 1)
    assert (oracle.decode(made["segmentation"]) == mask).all()
    assert made["bbox"] == oracle.toBbox(made["segmentation"]).tolist()
