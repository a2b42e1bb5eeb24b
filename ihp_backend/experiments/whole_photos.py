"""What a whole photo costs an annotator: from nothing, and from the masks that are there without a click.

The seconds of a person are those of the keystroke-level model (Card, Moran and Newell, Communications of the ACM 23:7,
1980); those of the machine are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ihp_backend.data.sample import DataSet
from ihp_backend.evaluation.metrics import class_iou, confusion, mean_iou
from ihp_backend.experiments.simulated_interface import Interface, SessionConfig, tasks
from ihp_backend.inference.predictor import Predictor
from ihp_backend.simulation.annotator import SimulatedAnnotator

Start = Literal["nothing", "predictions"]
KEY_S, POINT_S, PRESS_S, THINK_S = 0.28, 1.1, 0.2, 1.35
"""Seconds for a key, for moving the pointer to a place, for a press of its button, and for making up one's mind."""
BROWSER_S = 0.24
"""Seconds that Label Studio's page takes for a click beside our answer, measured with no mask there."""

_SUBMIT_KEYS = 2


@dataclass(frozen=True)
class PhotoCost:
    """What a photo took until its mean IoU was enough, or until its clicks were used up.

    Attributes:
        name: The photo.
        clicks: Clicks on it.
        keys: A label's key before each click, Ctrl for one inside a mask, Alt for a negative one, and Ctrl+Enter.
        answers: Seconds of the backend's answers to the clicks.
        iou: Its mean IoU at the end.
        is_enough: Whether that is enough.
    """

    name: str
    clicks: int
    keys: int
    answers: float
    iou: float
    is_enough: bool

    @property
    def seconds(self) -> float:
        """Of the annotator, waiting included."""
        waited = self.answers + BROWSER_S * self.clicks
        # One look at the photo more than clicks: the last one finds nothing to do.
        return self.keys * KEY_S + self.clicks * (POINT_S + PRESS_S) + (self.clicks + 1) * THINK_S + waited


def whole_photos(
    predictor: Predictor, data: DataSet, start: Start, *, enough: float, config: SessionConfig
) -> list[PhotoCost]:
    """Annotates photos through ``/predict`` until each is right.

    First, each part present is clicked once; from predictions, only those whose mask is less than right. Then the
    largest error is clicked until the photo's mean IoU is enough, or its clicks are used up. Answers are accepted as
    they come.

    Args:
        predictor: Answers.
        data: Photos with labels of the predictor's schema.
        start: Whether the masks of a prediction are there, or none.
        enough: Mean IoU of a photo's classes, background included.
        config: The user, the seed, and the most clicks per class.
    """
    photos = tqdm(tasks(predictor, data, config), total=len(data), desc=f"from {start}", unit="photo")
    return [_annotated(interface, annotator, start, enough, config.max_clicks) for interface, annotator in photos]


def _annotated(
    interface: Interface, annotator: SimulatedAnnotator, start: Start, enough: float, max_clicks: float
) -> PhotoCost:
    count = len(annotator.schema)
    most = max(1, round(max_clicks * len(annotator.classes)))
    if start == "predictions":
        interface.open_with_predictions()
    else:
        interface.open()

    def matrix() -> NDArray[np.int64]:
        return confusion(annotator.labels, interface.label_map(), count)

    right = class_iou(matrix())
    clicks, keys, reached = 0, _SUBMIT_KEYS, 0.0
    for click in annotator.first_clicks(part for part in annotator.classes if right[part] < enough):
        interface.click(click)
        clicks, keys = clicks + 1, keys + 1
    while (reached := mean_iou(matrix())) < enough and clicks < most:
        there = interface.label_map()
        correction = annotator.next_click(there)
        if correction is None:
            break
        interface.click(correction)
        is_inside = bool(there[correction.pixel(*there.shape)])
        is_negative = correction.part == annotator.schema.names[0]
        clicks, keys = clicks + 1, keys + 1 + is_inside + is_negative
    answers = sum(interface.click_seconds)
    return PhotoCost(interface.sample.name, clicks, keys, answers, reached, reached >= enough)


def summary(costs: Sequence[PhotoCost], within: int = 2) -> dict[str, float]:
    """Returns the figures of some photos, at least one, ready for JSON."""
    seconds = [cost.seconds for cost in costs]
    return {
        "photos": len(costs),
        "enough": sum(cost.is_enough for cost in costs),
        f"enough_within_{within}_clicks": sum(cost.is_enough and cost.clicks <= within for cost in costs),
        "clicks_per_photo": round(float(np.mean([cost.clicks for cost in costs])), 2),
        "keys_per_photo": round(float(np.mean([cost.keys for cost in costs])), 2),
        "seconds_per_photo": round(float(np.mean(seconds)), 1),
        "seconds_per_photo_median": round(float(np.median(seconds)), 1),
        "iou": round(float(np.mean([cost.iou for cost in costs])), 4),
    }
