"""What it is worth that a project's own labels take the parts that lie in their accepted masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ihp_backend.evaluation.metrics import mean_iou
from ihp_backend.evaluation.protocol import ProtocolConfig, evaluate
from ihp_backend.experiments.active_learning import OWN_LABELS, TARGET, Relabelled
from ihp_backend.inference.predictor import Predictor
from ihp_backend.learning.label_meanings import Overlaps, meanings


@dataclass(frozen=True)
class Worth:
    """What was measured after a number of accepted photos.

    Attributes:
        photos: Accepted so far.
        means: The parts that each label has taken.
        clicks: Clicks per class until a test photo's mIoU reached 0.85, on average; failures count as the cap.
        failures: Test photos that never reached it.
        miou: mIoU of the test photos at 0, 1 and 2 clicks per class.
    """

    photos: int
    means: Mapping[str, tuple[str, ...]]
    clicks: float
    failures: int
    miou: Mapping[str, float]


def measure(
    predictor: Predictor, accepted: Relabelled, test: Relabelled, counts: Sequence[int], cap: float
) -> list[Worth]:
    """Counts the clicks that test photos need after so many photos were accepted. Nothing is trained.

    Args:
        predictor: The base weights.
        accepted: Photos whose true masks were accepted, in this order.
        test: Other photos.
        counts: How many are accepted, each measured apart.
        cap: Most clicks per class.
    """
    overlaps = [overlaps_of(predictor, accepted, index) for index in range(max(counts, default=0))]
    found = []
    for count in counts:
        means = meanings(tuple(OWN_LABELS), overlaps[:count], (), predictor.schema)
        labels = {"background": ("background",), **means}
        result = evaluate(predictor, test, ProtocolConfig(max_clicks=cap), labels=labels)
        needed = [photo.reached[TARGET] for photo in result.photos]
        clicks = float(np.mean([cap if n is None else n for n in needed]))
        miou = {f"{budget:g}": round(mean_iou(result.confusions[budget]), 4) for budget in (0.0, 1.0, 2.0)}
        found.append(Worth(count, means, round(clicks, 3), sum(n is None for n in needed), miou))
    return found


def overlaps_of(predictor: Predictor, data: Relabelled, index: int) -> Overlaps:
    """How the true masks of a photo lie over the parts that the weights see without a click."""
    sample = data[index]
    ids = {label: data.schema.names.index(label) for label in OWN_LABELS}
    return Overlaps.read(predictor, sample.image, sample.labels, ids)
