"""Features of one place are compared with those of another."""

from __future__ import annotations

import numpy as np
import pytest

from ihp_backend.inference.postprocess.likeness import feature_cell, likeness, unit_features

EMBEDDING = np.random.default_rng(0).normal(size=(8, 5, 7)).astype(np.float32)


def test_the_likeness_is_a_cosine() -> None:
    found = likeness(unit_features(5 * EMBEDDING), (2, 3))
    own = EMBEDDING[:, 2, 3]
    lengths = np.linalg.norm(EMBEDDING, axis=0) * np.linalg.norm(own)
    assert found.shape == (5, 7)
    assert np.allclose(found, np.einsum("d,dij->ij", own, EMBEDDING) / lengths, atol=1e-4)
    assert found[2, 3] == pytest.approx(1, abs=1e-5)


def test_features_of_nothing_are_like_nothing() -> None:
    assert not likeness(unit_features(np.zeros((8, 5, 7), np.float32)), (0, 0)).any()


@pytest.mark.parametrize(
    ("cell", "expected"), [((0, 0), (0, 0)), ((9, 13), (4, 6)), ((4, 5), (2, 2)), ((3, 6), (1, 3)), ((10, 14), (4, 6))]
)
def test_two_by_two_stride_2_pixels_have_one_feature(cell: tuple[int, int], expected: tuple[int, int]) -> None:
    assert feature_cell(EMBEDDING, cell, (10, 14)) == expected
