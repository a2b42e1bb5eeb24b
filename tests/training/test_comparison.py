"""New weights against old ones: by hand, and against distributions whose answer is known."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ihp_backend.training.comparison import judge, likelihood

BEFORE = {"miou_at_0": 0.5, "miou_at_1": 0.6, "miou_at_1.5": 0.7, "miou_at_2": 0.8, "base": 0.9}
AFTER = {**BEFORE, "miou_at_1": 0.7}


def test_all_photos_gain() -> None:
    sure, low, high = likelihood([0.1] * 6)
    assert (sure, low, high) == pytest.approx((1.0, 0.1, 0.1))


def test_none_gains_when_all_lose() -> None:
    assert likelihood([-0.1, -0.2, -0.05])[0] == 0.0


def test_an_even_chance_is_told_as_one() -> None:
    assert likelihood([0.1, -0.1] * 10)[0] == pytest.approx(0.5, abs=0.12)


def test_the_interval_is_that_of_the_normal_distribution() -> None:
    """Of many photos the mean is normally distributed: its 5th and 95th percentile lie 1.645 standard errors away."""
    gains = np.random.default_rng(1).normal(0.02, 0.1, 400)
    _, low, high = likelihood(list(gains))
    error = 1.645 * gains.std() / 20
    assert (low, high) == pytest.approx((gains.mean() - error, gains.mean() + error), abs=0.1 * error)


@pytest.mark.parametrize(
    ("gains", "base", "is_better", "expected"),
    [
        ([0.1] * 5, 0.9, True, r"^it is better: .*1: 0.600 -> 0.700.*5 of 5 photos.*100%.*base check 0.900 -> 0.900"),
        ([0.1] * 5, 0.88, False, "^it forgets"),
        ([0.001] * 5, 0.9, False, "^it is not better"),  # sure, but nobody would notice
        ([0.3, -0.1, -0.1, 0.1, -0.1], 0.9, False, "^it is not better"),  # one photo says it all
        ([0.1], 0.9, True, "too few to tell how sure"),
        ([-0.1], 0.9, False, "^it is not better: .*too few"),
    ],
)
def test_judgement_by_hand(gains: list[float], base: float, is_better: bool, expected: str) -> None:
    verdict = judge(BEFORE, {**AFTER, "base": base}, gains, least_gain=0.002, most_loss=0.01)
    assert verdict.is_better is is_better
    assert verdict.forgets is ("forgets" in expected), "only then its mean with the base is tried"
    assert re.search(expected, verdict.reason)


def test_what_cross_validation_adds_is_told() -> None:
    verdict = judge(BEFORE, AFTER, [0.1] * 6, crossed=5, least_gain=0.002, most_loss=0.01)
    assert "mIoU of 1 held-back photos" in verdict.reason
    assert "6 of 6 photos, 5 of them by cross-validation, are better" in verdict.reason
