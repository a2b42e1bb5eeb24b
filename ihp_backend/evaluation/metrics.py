"""Confusion matrices and what is read off them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ihp_backend.parts import IGNORE


def confusion(labels: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Counts pixels by true and predicted class.

    Args:
        labels: (H, W) true ids; 255 is not counted.
        predicted: (H, W) predicted ids, below ``classes``.
        classes: Number of classes.

    Returns:
        (classes, classes), rows the truth, columns the prediction.
    """
    counted = labels != IGNORE
    pairs = labels[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of each class, NaN for classes that the truth does not have."""
    hit = matrix.diagonal().astype(float)
    true, predicted = matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(true > 0, hit / (true + predicted - hit), np.nan)


def mean_iou(matrix: NDArray[np.int64]) -> float:
    """Mean IoU over the classes that occur in the truth, the background included."""
    return float(np.nanmean(class_iou(matrix)))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation, equal values sharing their mean rank; NaN where all values of one are equal."""
    if len(first) < 2 or len(set(first)) == 1 or len(set(second)) == 1:
        return float("nan")
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def budget_at(target: float, budgets: Sequence[float], values: Sequence[float]) -> float | None:
    """Returns the smallest budget at which the values cross the target, interpolated; ``None`` if they never do."""
    for i, value in enumerate(values):
        if value >= target:
            if i == 0:
                return float(budgets[0])
            share = (target - values[i - 1]) / (value - values[i - 1])
            return float(budgets[i - 1] + share * (budgets[i] - budgets[i - 1]))
    return None
