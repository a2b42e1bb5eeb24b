"""Confusion and IoU against cases worked out by hand, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import confusion_matrix, jaccard_score

from ihp_backend.evaluation.metrics import budget_at, class_iou, confusion, mean_iou, rank_correlation
from ihp_backend.parts import IGNORE

# 5x5 by hand: class 0 is the frame, 1 the left of the middle, 2 the right, one pixel is ignored.
TRUTH = np.array(
    [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 2, 0],
        [0, 1, 1, 2, 0],
        [0, 1, 255, 2, 0],
        [0, 0, 0, 0, 0],
    ],
    np.uint8,
)
SAID = np.array(
    [
        [0, 0, 0, 0, 3],
        [0, 1, 2, 2, 0],
        [0, 1, 1, 2, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0],
    ],
    np.uint8,
)


def test_by_hand() -> None:
    matrix = confusion(TRUTH, SAID, 4)
    assert matrix.tolist() == [[15, 0, 0, 1], [0, 4, 1, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    # Class 3 is said but not there: it costs class 0, and has no IoU of its own.
    assert class_iou(matrix)[:3] == pytest.approx([15 / 17, 4 / 5, 2 / 4])
    assert np.isnan(class_iou(matrix)[3])
    assert mean_iou(matrix) == pytest.approx((15 / 17 + 4 / 5 + 2 / 4) / 3)


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_as_scikit_learn_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice(np.array([0, 1, 2, 3, 4, IGNORE], np.uint8), (9, 7))
    said = rng.integers(0, 5, (9, 7)).astype(np.uint8)
    if (truth == IGNORE).all():
        return
    kept = truth != IGNORE
    matrix = confusion(truth, said, 5)
    assert np.array_equal(matrix, confusion_matrix(truth[kept], said[kept], labels=range(5)))
    present = np.unique(truth[kept])
    expected = jaccard_score(truth[kept], said[kept], labels=present, average=None, zero_division=0)
    assert class_iou(matrix)[present] == pytest.approx(expected)
    assert mean_iou(matrix) == pytest.approx(expected.mean())


def test_where_a_curve_crosses() -> None:
    budgets, values = [1, 1.5, 2, 3], [0.6, 0.8, 0.9, 0.95]
    assert budget_at(0.5, budgets, values) == 1
    assert budget_at(0.6, budgets, values) == 1
    assert budget_at(0.85, budgets, values) == pytest.approx(1.75)
    assert budget_at(0.95, budgets, values) == pytest.approx(3)
    assert budget_at(0.96, budgets, values) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1, width=16)), min_size=2, max_size=40))
def test_rank_correlation_is_scipys(pairs: list[tuple[int, float]]) -> None:
    first, second = [float(a) for a, _ in pairs], [b for _, b in pairs]
    found = rank_correlation(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(spearmanr(first, second).statistic)
