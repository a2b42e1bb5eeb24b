"""What the numbers in the path of a click are worth: each is set to nothing, halved and doubled; the rest stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib import import_module

import cv2
from tqdm import tqdm

from ihp_backend.data.sample import DataSet
from ihp_backend.evaluation.metrics import mean_iou
from ihp_backend.evaluation.protocol import ProtocolConfig, evaluate
from ihp_backend.inference.postprocess.steps import STEPS, PostprocessConfig
from ihp_backend.inference.predictor import Predictor

FACTORS = (0.0, 0.5, 2.0)
BUDGETS = (0.0, 1.0, 1.5, 2.0)
"""Clicks per class."""
_CONSTANTS = {
    "click_free": ("_COARSE_SHARE",),
    "people": ("_GAP", "_NEAR", "_NEAR_OF_PERSON", "_PIECE", "_LEAST_PERSON", "_LOOKED_AT", "_LEAST_ON_OTHERS"),
    "roi": ("_MARGIN", "_LARGE", "_NO_TARGET_SIDE", "_STEPS", "_WIDER_STEPS"),
}
"""The numbers of ``inference/`` that are no options of a step, by module."""


@dataclass(frozen=True)
class Threshold:
    """A number that a click's answer depends on.

    Attributes:
        place: The step of post-processing whose option it is, or the module of ``inference/`` whose constant.
        field: Its name there.
        value: What it is.
    """

    place: str
    field: str
    value: float

    @property
    def name(self) -> str:
        """Such as ``people.near`` or ``enforce_clicks.reach``."""
        return f"{self.place}.{self.field.strip('_').lower()}"

    def scaled(self, factor: float) -> float:
        """Its value times a factor, a whole number if it is one."""
        return round(self.value * factor) if isinstance(self.value, int) else self.value * factor


@dataclass(frozen=True)
class Effect:
    """What another value changes.

    Attributes:
        name: Of the threshold.
        value: What it is.
        tried: The other value.
        points: By how many points of mIoU it is better (+) or worse, at each budget of ``BUDGETS``; none where nothing
            can be computed with it.
    """

    name: str
    value: float
    tried: float
    points: tuple[float, ...]


def thresholds() -> list[Threshold]:
    """Returns all of them: the options of the steps, then the constants."""
    found, config = [], PostprocessConfig()
    for step in STEPS:
        options = getattr(config, step)
        if is_dataclass(options):
            found += [Threshold(step, field.name, getattr(options, field.name)) for field in fields(options)]
    for module, names in _CONSTANTS.items():
        room = import_module(f"ihp_backend.inference.{module}")
        found += [Threshold(module, name, getattr(room, name)) for name in names]
    return found


def effects(
    load: Callable[[PostprocessConfig], Predictor],
    data: DataSet,
    config: ProtocolConfig,
    chosen: Sequence[Threshold],
    factors: Sequence[float] = FACTORS,
) -> Iterator[Effect]:
    """Measures each threshold at other values.

    Args:
        load: Loads the weights, with these steps.
        data: Photos that the weights were not trained on.
        config: How a simulated annotator clicks; up to two clicks per class are looked at.
        chosen: The thresholds.
        factors: Times its value.
    """

    def measured(predictor: Predictor) -> list[float]:
        found = evaluate(predictor, data, replace(config, max_clicks=max(BUDGETS)), quiet=True)
        return [mean_iou(found.confusions[budget]) for budget in BUDGETS]

    today = measured(load(PostprocessConfig()))
    for threshold, factor in tqdm([(t, f) for t in chosen for f in factors], desc="thresholds"):
        tried = threshold.scaled(factor)
        points: tuple[float, ...] = ()
        if tried == threshold.value:
            continue
        try:
            with _with(threshold, tried) as steps:
                found = measured(load(steps))
            points = tuple(100 * (new - old) for new, old in zip(found, today, strict=True))
        except (ArithmeticError, ValueError, IndexError, cv2.error):
            pass  # it may not be that
        yield Effect(threshold.name, threshold.value, tried, points)


@contextmanager
def _with(threshold: Threshold, value: float) -> Iterator[PostprocessConfig]:
    """Sets a threshold as long as this lasts; the steps to load with come out."""
    config = PostprocessConfig()
    if threshold.place in STEPS:
        options = replace(getattr(config, threshold.place), **{threshold.field: value})
        yield replace(config, **{threshold.place: options})
        return
    room = import_module(f"ihp_backend.inference.{threshold.place}")
    setattr(room, threshold.field, value)
    try:
        yield config
    finally:
        setattr(room, threshold.field, threshold.value)
