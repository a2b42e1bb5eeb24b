"""The evaluation protocol: a simulated annotator drives the predictor, photo by photo, click by click."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ihp_backend.clicks import Click
from ihp_backend.data.sample import DataSet
from ihp_backend.evaluation.metrics import confusion, mean_iou
from ihp_backend.inference.prediction import Parse
from ihp_backend.inference.predictor import Predictor
from ihp_backend.inference.prompts import Prompts
from ihp_backend.parts import IGNORE, Schema, get_schema
from ihp_backend.simulation.annotator import SimulatedAnnotator, User

_EVERYWHERE = 5.0
BUDGETS = (0.0, *(1 + 0.25 * i for i in range(17)), *(float(n) for n in range(6, 21)))
"""Mean clicks per class at which the whole data set is measured: 0, 1 to 5 in quarters, then up to 20.

Beyond 5 a photo that has crossed every target is not clicked any further; it counts as it is.
"""
TARGETS = (0.75, 0.80, 0.85, 0.90)


@dataclass(frozen=True)
class ProtocolConfig:
    """How to evaluate.

    Attributes:
        user: ``center``, ``sloppy`` or ``human``.
        max_clicks: Clicks per class at which a photo is given up.
        seed: Of the sloppy and the human user.
        previous: Whether each round sees the probabilities of the one before.
        everyone: Whether a click means everyone in the photo, not the one person it is on: right for data that labels
            everybody, such as CIHP and PASCAL-Person-Part.
        only_present: Whether a photo's own parts alone are told apart: any other part counts as background.
    """

    user: User = "center"
    max_clicks: float = 20.0
    seed: int = 0
    previous: bool = True
    everyone: bool = False
    only_present: bool = False


@dataclass
class PhotoResult:
    """What happened on one photo.

    Attributes:
        name: The photo.
        classes: Parts present, background not counted.
        clicks: All clicks in their order.
        ious: Mean IoU of the photo after 0 clicks, after the first round, then after each further click.
        reached: For each target, clicks per class until it was crossed; ``None`` if it never was.
        first_round: How many clicks the first round had.
        score: Of the prediction without clicks, as Label Studio gets it.
    """

    name: str
    classes: int
    clicks: list[Click]
    ious: list[float]
    reached: dict[float, float | None]
    first_round: int
    score: float

    def iou_at(self, clicks_per_class: float) -> float:
        """Mean IoU of the photo after so many clicks per class, rounded to whole clicks, or when its clicks ended."""
        if clicks_per_class <= 0:
            return self.ious[0]
        due = max(1, round(clicks_per_class * self.classes))
        return self.ious[min(1 + max(0, due - self.first_round), len(self.ious) - 1)]


@dataclass
class Evaluation:
    """Everything measured over a data set.

    Attributes:
        schema: Classes of the data.
        confusions: Confusion matrix of the whole data set at each budget of ``BUDGETS``.
        presence_only: The same without clicks, absent classes masked.
        photos: One result a photo.
        changes: For each correction click the clicks per class so far, and by how much it changed the IoU of the
            class that was clicked, on its photo.
        seconds_per_click: Time of each parse, on one core, beside others.
        guesses: Of each mask that is suggested without a click, the share that is right.
    """

    schema: Schema
    confusions: dict[float, NDArray[np.int64]]
    presence_only: NDArray[np.int64]
    photos: list[PhotoResult] = field(default_factory=list)
    changes: list[tuple[float, float]] = field(default_factory=list)
    seconds_per_click: list[float] = field(default_factory=list)
    guesses: list[float] = field(default_factory=list)

    @classmethod
    def of_none(cls, schema: Schema, max_clicks: float) -> Evaluation:
        """An evaluation of no photo yet, up to so many clicks per class."""
        nothing = np.zeros((len(schema), len(schema)), np.int64)
        return cls(schema, {b: nothing.copy() for b in BUDGETS if b <= max_clicks}, nothing.copy())

    def add(self, other: Evaluation) -> None:
        """Takes in what was measured on other photos, at the same budgets."""
        for budget, matrix in other.confusions.items():
            self.confusions[budget] += matrix
        self.presence_only += other.presence_only
        self.photos += other.photos
        self.changes += other.changes
        self.seconds_per_click += other.seconds_per_click
        self.guesses += other.guesses

    def lowered(self, by_more_than: float = 0.0, up_to: float = float("inf")) -> float:
        """Returns the share of correction clicks after which their class's IoU was lower.

        Args:
            by_more_than: Smaller losses do not count.
            up_to: Clicks per class up to which corrections are looked at.
        """
        changes = [change for clicks, change in self.changes if clicks <= up_to]
        return sum(change < -by_more_than for change in changes) / max(1, len(changes))


def evaluate(
    predictor: Predictor,
    data: DataSet,
    config: ProtocolConfig,
    *,
    labels: Mapping[str, tuple[str, ...]] | None = None,
    quiet: bool = False,
    threads: int | None = None,
) -> Evaluation:
    """Runs the protocol, on some photos at the same time.

    Round 0 is one click for each part present; then one click at a time into the largest error. A photo ends when no
    error is left to click, or at the limit. At each budget the photo counts with the parse it had after that many
    clicks per class, rounded to whole clicks.

    Args:
        predictor: The predictor, as it serves annotators.
        data: Photos with labels of the predictor's schema.
        config: How.
        labels: The parts of the weights that each of the data's classes means; by default, those of its name.
        quiet: No progress bar.
        threads: So many photos at the same time, by default one a core; each has one core, whatever their number.

    Raises:
        ValueError: If the data has another schema than the weights.
    """
    result = Evaluation.of_none(data.schema, config.max_clicks)
    one = partial(_photo, predictor, data, config, labels or labels_of(data.schema, predictor))
    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads or os.cpu_count(), "evaluate", partial(torch.set_num_threads, 1)) as pool:
            found = pool.map(one, range(len(data)))
            for photo in tqdm(found, total=len(data), desc="evaluate", unit="photo", disable=quiet):
                result.add(photo)
    finally:
        torch.set_num_threads(cores)  # those of threads to come
    return result


def labels_of(schema: Schema, predictor: Predictor) -> dict[str, tuple[str, ...]]:
    """Returns the data's classes as labels for the predictor; those that it lacks go through open-class channels.

    Raises:
        ValueError: If the data has another schema than the weights.
    """
    known = predictor.schema.names
    base = get_schema(schema.name).names
    if schema.name != predictor.schema.name or schema.names[: len(base)] != known[: len(base)]:
        raise ValueError(f"the data has the classes of {schema.name!r}, the weights those of {predictor.schema.name!r}")
    return {name: (name,) if name in known else () for name in schema.names}


def _photo(
    predictor: Predictor, data: DataSet, config: ProtocolConfig, labels: Mapping[str, tuple[str, ...]], index: int
) -> Evaluation:
    result = Evaluation.of_none(data.schema, config.max_clicks)
    sample = data[index]
    annotator = SimulatedAnnotator(sample.labels, data.schema, user=config.user, seed=config.seed + index)
    present = annotator.classes
    count = len(data.schema)

    def predicted_ids(parse: Parse) -> NDArray[np.uint8]:
        ids = class_ids(parse, data.schema)
        return np.where(np.isin(ids, present), ids, np.uint8(0)) if config.only_present else ids

    session = predictor.open(sample.image, sample.name)
    parse = session.parse(Prompts(labels=labels))
    automatic = predicted_ids(parse)
    result.presence_only += confusion(sample.labels, class_ids(parse, data.schema, [0, *present]), count)
    result.confusions[0.0] += (matrix := confusion(sample.labels, automatic, count))
    clicks: list[Click] = []
    ious = [mean_iou(matrix)]
    reached: dict[float, float | None] = dict.fromkeys(TARGETS)
    guessed = session.suggested(parse, labels)
    scores = [parse.score(label) for label in guessed]
    for label in guessed:
        there = sample.labels[parse.mask(label)]
        result.guesses.append(float((there == data.schema.names.index(label)).sum() / max(1, (there != IGNORE).sum())))
    photo = PhotoResult(sample.name, len(present), clicks, ious, reached, 0, float(np.mean(scores or [0.0])))
    result.photos.append(photo)
    _note_targets(photo, 0.0)
    due = {b: max(1, round(b * len(present))) for b in result.confusions if b > 0}
    limit = max(1, round(config.max_clicks * len(present)))
    new = annotator.first_clicks()
    photo.first_round = len(new)
    while new and len(clicks) + len(new) <= limit:
        clicks += new
        started = time.perf_counter()
        prev = parse if config.previous and len(clicks) > photo.first_round else None
        parse = session.parse(Prompts(tuple(clicks), labels=labels, everyone=config.everyone), prev)
        result.seconds_per_click.append(time.perf_counter() - started)
        before, predicted = matrix, predicted_ids(parse)
        matrix = confusion(sample.labels, predicted, count)
        if len(clicks) > photo.first_round:
            part = data.schema.names.index(clicks[-1].part)
            result.changes.append((len(clicks) / len(present), _iou(matrix, part) - _iou(before, part)))
        ious.append(mean_iou(matrix))
        _note_targets(photo, len(clicks) / len(present))
        done = len(clicks)
        for budget in [b for b, clicks_due in due.items() if clicks_due <= done]:
            result.confusions[budget] += matrix
            del due[budget]
        if min(due, default=math.inf) > _EVERYWHERE and all(value is not None for value in reached.values()):
            return result
        click = annotator.next_click(predicted)
        new = [click] if click else []
    for budget in due:
        result.confusions[budget] += matrix
    return result


def class_ids(parse: Parse, schema: Schema, allowed: Sequence[int] | None = None) -> NDArray[np.uint8]:
    """The parse as ids of the data's classes, (H, W); ``allowed`` are the ids that may win."""
    ids = np.zeros(256, np.uint8)
    for i, name in enumerate(schema.names):
        ids[list(parse.channels.of(name))] = i
    channels = None if allowed is None else [c for i in allowed for c in parse.channels.of(schema.names[i])]
    return ids[parse.label_map(channels)]


def _iou(matrix: NDArray[np.int64], part: int) -> float:
    hit = matrix[part, part]
    return float(hit / max(1, matrix[part].sum() + matrix[:, part].sum() - hit))


def _note_targets(photo: PhotoResult, clicks_per_class: float) -> None:
    for target, when in photo.reached.items():
        if when is None and photo.ious[-1] >= target:
            photo.reached[target] = clicks_per_class
