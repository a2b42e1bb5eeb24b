"""Whether new weights are better than old ones, on photos that they did not learn from, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ihp_backend.data.sample import DataSet
from ihp_backend.evaluation.metrics import mean_iou
from ihp_backend.evaluation.protocol import Evaluation, ProtocolConfig, evaluate
from ihp_backend.inference.predictor import Predictor

BUDGETS = (0.0, 1.0, 1.5, 2.0)
"""Clicks per class."""
TOO_FEW = 5
"""From fewer photos than these nobody can tell how sure a gain is."""
_SURE = 0.8
"""A version is promoted if it is better in this share of the resamples: four to one."""
_RESAMPLES = 2000


@dataclass(frozen=True)
class Measured:
    """What weights reach on some photos.

    Attributes:
        figures: mIoU over all photos after so many clicks per class: ``miou_at_0`` to ``miou_at_2``.
        photos: Of each photo, its mean IoU after 1, 1.5 and 2 clicks per class, averaged: what annotators pay for.
    """

    figures: dict[str, float]
    photos: tuple[float, ...]


@dataclass(frozen=True)
class Verdict:
    """Whether new weights are better.

    Attributes:
        is_better: Whether they should be served.
        forgets: Whether they lost more of the base than they may: only then their mean with the base is worth a try.
        reason: Why, with figures, in a sentence.
    """

    is_better: bool
    forgets: bool
    reason: str


def measure(predictor: Predictor, data: DataSet) -> Measured:
    """Annotates photos with simulated clicks; classes that a photo does not show are not asked for."""
    config = ProtocolConfig(max_clicks=max(BUDGETS), only_present=True)
    found = evaluate(predictor, data, config, quiet=True)
    photos = (np.mean([photo.iou_at(b) for b in BUDGETS if b > 0]) for photo in found.photos)
    return Measured(_figures(found, BUDGETS), tuple(map(float, photos)))


def miou(predictor: Predictor, data: DataSet, budgets: Sequence[float]) -> dict[str, float]:
    """Returns the mIoU over all photos after each mean number of clicks per class, such as ``miou_at_1``."""
    return _figures(evaluate(predictor, data, ProtocolConfig(max_clicks=max(budgets)), quiet=True), budgets)


def _figures(found: Evaluation, budgets: Sequence[float]) -> dict[str, float]:
    return {f"miou_at_{b:g}": round(mean_iou(found.confusions[b]), 4) for b in budgets}


def likelihood(gains: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Paired bootstrap over photos (Efron and Tibshirani, 1993): how surely the mean gain is one.

    Args:
        gains: Of each photo, after minus before.
        seed: Of the resamples.

    Returns:
        The share of resamples whose mean is above 0, and the 5th and 95th percentile of their means.
    """
    picks = np.random.default_rng(seed).integers(len(gains), size=(_RESAMPLES, len(gains)))
    means = np.asarray(gains)[picks].mean(1)
    low, high = np.percentile(means, (5, 95))
    return float((means > 0).mean()), float(low), float(high)


def judge(
    before: dict[str, float],
    after: dict[str, float],
    gains: Sequence[float],
    *,
    crossed: int = 0,
    least_gain: float,
    most_loss: float,
) -> Verdict:
    """Says whether new weights are better.

    Args:
        before: Figures of the old ones on the held-back photos, and as ``base`` those of the base check, if any.
        after: The same of the new ones.
        gains: Of each photo that was measured, after minus before, see ``Measured.photos``.
        crossed: How many of these come from cross-validation.
        least_gain: Smallest mean gain that counts.
        most_loss: Greatest loss in the base check.
    """
    shown = [f"miou_at_{b:g}" for b in BUDGETS if b > 0]
    text = ", ".join(f"{k.removeprefix('miou_at_')}: {before[k]:.3f} -> {after[k]:.3f}" for k in shown)
    text = f"mIoU of {len(gains) - crossed} held-back photos by clicks per class {text}"
    mean, is_sure = float(np.mean(gains)), True
    of = f"{len(gains)} photos, {crossed} of them by cross-validation" if crossed else f"{len(gains)} photos"
    text += f"; {sum(g > 0 for g in gains)} of {of}, are better, by {mean:+.3f} on average"
    if len(gains) < TOO_FEW:
        text += ": too few to tell how sure that is"
    else:
        sure, low, high = likelihood(gains)
        is_sure = sure >= _SURE
        text += f" (90% of the resamples: {low:+.3f} to {high:+.3f}; better in {sure:.0%})"
    if "base" in before:
        text += f"; base check {before['base']:.3f} -> {after['base']:.3f}"
        if before["base"] - after["base"] > most_loss:
            return Verdict(False, True, f"it forgets: {text}")
    if mean < least_gain or not is_sure:
        return Verdict(False, False, f"it is not better: {text}")
    return Verdict(True, False, f"it is better: {text}")
