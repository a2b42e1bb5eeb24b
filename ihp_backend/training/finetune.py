"""Fine-tuning: a version learns from a project's annotations, and is measured against what it was before.

Three things keep the network from forgetting. Where no annotation contradicts, it has to predict what it predicted
before for the same clicks (learning without forgetting, Li and Hoiem, ECCV 2016). It rehearses the base network's
predictions on the project's photos, and the photos of a base data set where there is one. If the new weights forget all
the same, they are averaged with the base's (Wortsman et al., CVPR 2022). Forgetting is measured against the base, not
against the version before, so small losses do not add up from one training to the next.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ihp_backend.data.annotated_photos import AnnotatedPhotos
from ihp_backend.data.augment import ViewConfig
from ihp_backend.data.folder import FolderDataSet
from ihp_backend.data.sample import DataError, Sample
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.expand_classes import expand_classes
from ihp_backend.network.parser import HumanParser
from ihp_backend.network.weights import load_parser, save_parser
from ihp_backend.parts import IGNORE, Schema
from ihp_backend.simulation.sampling import SamplingConfig
from ihp_backend.training.comparison import TOO_FEW, Measured, judge, measure, miou
from ihp_backend.training.config import TrainConfig
from ihp_backend.training.pseudo_labels import PseudoLabeller, Samples, TrainingTarget, first_samples
from ihp_backend.training.trainer import Trainer

log = logging.getLogger(__name__)

_CROSSED = 8
"""Photos that cross-validation measures, at most."""


@dataclass(frozen=True)
class FinetuneConfig:
    """How a version learns; by default in two minutes, after a few annotations. See ``THOROUGH``.

    Attributes:
        steps: Optimiser steps.
        batch: Photos in a step.
        rate: Peak learning rate of the decoder.
        backbone_rate: Of the backbone; 0 leaves it as it is, which takes half the time and forgets less.
        last_layers: Only the decoder's last layers learn, 19,000 of its weights.
        keep: Weight of predicting what was predicted before where no annotation contradicts, see ``keep_loss``.
        rehearsal: Photos of the base data that are rehearsed, at most.
        measured: Photos that are measured, at most, of the held-back ones and of the base check each.
        least_gain: Smallest mean gain of the photos that were measured that counts as better. Where they are too few
            to tell how sure it is, it must be as much greater as their mean is less sure: with one photo, four times.
        most_loss: Greatest loss of the base check's mIoU, from the base weights.
        seed: Source of all randomness.
    """

    steps: int = 60
    batch: int = 6
    rate: float = 1e-3
    backbone_rate: float = 0.0
    last_layers: bool = True
    keep: float = 10.0
    rehearsal: int = 60
    measured: int = 16
    least_gain: float = 0.002
    most_loss: float = 0.01
    seed: int = 1


THOROUGH = FinetuneConfig(steps=200, rate=5e-4, last_layers=False)
"""The whole decoder learns, for minutes: what *Start Training* does."""


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        is_better: Whether the new version should be served.
        reason: Why, with figures, in a sentence.
        before: Figures of the version that it started from: mIoU of the held-back photos' annotated parts after so many
            clicks per class, ``miou_at_0`` to ``miou_at_2``, and ``base``, that of the base weights in the base check,
            if there is one.
        after: The same of the new version; empty if none was made.
        seconds: How long it took.
    """

    is_better: bool
    reason: str
    before: dict[str, float]
    after: dict[str, float]
    seconds: float


def finetune(
    start: Path,
    train: AnnotatedPhotos,
    held_back: AnnotatedPhotos,
    out: Path,
    *,
    version: str,
    base: Path,
    config: FinetuneConfig | None = None,
    device: str = "auto",
    base_data: Path | None = None,
    report: Callable[[str, float], None] | None = None,
) -> Outcome:
    """Trains a version on a project's annotations and says whether it is better.

    A run that was killed goes on where it was if it is given the same folder again.

    Args:
        start: Folder of the weights to start from: the project's current version, or the base.
        train: Annotated photos to learn from.
        held_back: Annotated photos to measure with.
        out: Folder in which the new weights are left: model.safetensors and info.json.
        version: What predictions of the new weights call it.
        base: Folder of the base weights: the teacher.
        config: How to learn.
        device: A torch device, or ``auto``.
        base_data: A folder data set with the splits ``train``, which is rehearsed, and ``val``, which is the base
            check. Without, or if it is of another schema than the base, the teacher's opinion of the project's photos
            is both.
        report: Told of the progress: a stage and the share of it that is done.

    Raises:
        WeightsError: If weights are missing or damaged.
        TrainerError: If the training cannot go on.
        DataError: If ``base_data`` is not such a data set.
    """
    began = time.monotonic()
    config, report = config or FinetuneConfig(), report or (lambda stage, share: None)
    teacher = Predictor.load(base, device=device)
    parser, info = load_parser(start)
    names = teacher.schema.names
    own = [label for label, parts in train.labels.items() if not set(parts) & set(names)]
    parser = expand_classes(parser, own)
    anchor = expand_classes(load_parser(base)[0], parser.config.custom_classes)
    if anchor.config != parser.config or not _is_of(str(info.get("version", start.name)), teacher.version):
        anchor = parser  # the base has been replaced since
    schema = parser.config.parts

    labeller = PseudoLabeller(train.labels, schema, teacher)
    targets = _targets(train, labeller, lambda share: report("read", 0.7 * share))
    tests = _targets(held_back, labeller, lambda share: report("read", 0.7 + 0.3 * share), config.measured)
    if not targets or not tests:
        reason = f"{len(targets)} photos to learn from and {len(tests)} to measure with; at least one of each is needed"
        return Outcome(False, reason, {}, {}, time.monotonic() - began)

    if base_data is not None and not _is_of_schema(base_data, teacher.schema):
        base_data = None
    base_photos: list[Sample] = []
    check = Samples([target.base for target in tests], teacher.schema)
    if base_data is not None:
        base_photos = _rehearsal(base_data, range(len(names), len(schema)), config)
        check = Samples(first_samples(FolderDataSet(base_data, "val"), config.measured), teacher.schema)

    def material(targets: Sequence[TrainingTarget]) -> Samples:
        photos = [target.own for target in targets]
        rehearsal = [*([target.base for target in targets] if own else []), *base_photos]
        return Samples(photos * max(1, round(len(rehearsal) / len(photos))) + rehearsal, schema)

    def serving(parser: HumanParser) -> Predictor:
        return Predictor(parser, device=str(teacher.device))

    def measured(predictor: Predictor, photos: Sequence[TrainingTarget]) -> Measured:
        return measure(predictor, Samples([target.drawn for target in photos], schema))

    def figures(stage: str, predictor: Predictor, of_base: Predictor) -> tuple[dict[str, float], Measured]:
        report(stage, 0.0)
        found = measured(predictor, tests)
        report(stage, 0.7)
        base = {"base": miou(of_base, check, (1.0,))["miou_at_1"]} if has_parts(check) else {}
        report(stage, 1.0)
        return found.figures | base, found

    def cross_validated() -> list[float]:
        """Gains of some photos to learn from, each after a training without it, of a third of the steps.

        One training leaves out a quarter of the photos at most; where that is not enough, there are two.
        """
        short, gains = replace(config, steps=max(1, config.steps // 3)), list[float]()
        most = min(len(targets), _CROSSED - len(tests))
        folds = 1 if 4 * most <= len(targets) else 2
        for number in range(folds):

            def told(stage: str, share: float, number: int = number) -> None:
                report("cross-validate", (number + 0.7 * share) / folds)

            left_out = range(number, most, folds)
            fold = [targets[n] for n in left_out]
            others = [target for n, target in enumerate(targets) if n not in left_out]
            tuned = _train(parser, material(others), out / f"run/fold-{number}", short, str(teacher.device), told)
            pairs = zip(measured(started, fold).photos, measured(serving(tuned), fold).photos, strict=True)
            gains += [new - old for old, new in pairs]
        report("cross-validate", 1.0)
        return gains

    started = serving(load_parser(start)[0])
    before, old = figures("measure before", started, started if anchor is parser else teacher)
    crossed = cross_validated() if len(tests) < TOO_FEW and len(targets) > 1 else []
    tuned = _train(parser, material(targets), out / "run/whole", config, str(teacher.device), report)
    most_loss = config.most_loss if base_data is not None else 3 * config.most_loss  # an opinion is no truth
    for share in (1.0, 0.5, 0.25):
        candidate = interpolate_weights(anchor, tuned, share)
        served = serving(candidate)
        after, new = figures("measure after", served, served)
        gains = [b - a for a, b in zip(old.photos, new.photos, strict=True)] + crossed
        least = least_gain_of(config, len(gains))
        verdict = judge(before, after, gains, crossed=len(crossed), least_gain=least, most_loss=most_loss)
        if not verdict.forgets:
            break
    save_parser(
        candidate,
        out,
        {
            "version": version,
            "parent": info.get("version", start.name),
            "licence": info.get("licence", ""),
            "data": f"{len(targets)} photos of a project",
            "finetune": {**asdict(config), "share_of_new_weights": share},
            "metrics": {"before": before, "after": after},
        },
    )
    shutil.rmtree(out / "run", ignore_errors=True)
    return Outcome(verdict.is_better, verdict.reason, before, after, time.monotonic() - began)


def _targets(
    photos: AnnotatedPhotos, labeller: PseudoLabeller, report: Callable[[float], None], most: int | None = None
) -> list[TrainingTarget]:
    targets = []
    for index in range(min(len(photos), most or len(photos))):
        try:
            targets.append(labeller.target(photos[index]))
        except DataError as error:
            log.warning("a photo was left out: %s", error)
        report((index + 1) / len(photos))
    return [target for target in targets if np.any((target.own.labels != IGNORE) & (target.own.labels > 0))]


def _is_of_schema(folder: Path, schema: Schema) -> bool:
    """Whether base data has a schema's classes: a project of another label set goes on without it."""
    found = FolderDataSet(folder, "train").schema
    if found.names != schema.names:
        log.warning(
            "the base data %s has the classes of %s, not of %s: it is left out", folder, found.name, schema.name
        )
    return found.names == schema.names


def _rehearsal(folder: Path, own: Sequence[int], config: FinetuneConfig) -> list[Sample]:
    samples = first_samples(FolderDataSet(folder, "train"), config.rehearsal)
    return [Sample(s.name, s.image, s.labels, unknown=tuple(own)) for s in samples]


def _is_of(version: str, base: str) -> bool:
    return version == base or version.startswith(f"{base}+")


def has_parts(data: Samples) -> bool:
    """Whether there is more to check than the background."""
    ids = {int(i) for sample in data.samples for i in np.unique(sample.labels)}
    return len(ids - {0, IGNORE}) >= 2


def _train(
    parser: HumanParser,
    data: Samples,
    run: Path,
    config: FinetuneConfig,
    device: str,
    report: Callable[[str, float], None],
) -> HumanParser:
    save_parser(parser, run / "start", {})
    plan = TrainConfig(
        steps=config.steps,
        batch=config.batch,
        rate=config.rate,
        backbone_rate=config.backbone_rate,
        warmup=max(1, config.steps // 20),
        average=0.97,
        sp_loss="prototypes",
        small_share=1.0,  # half the area teaches as much, in half the time
        views=ViewConfig(detail=0.3),
        balance=0.0,
        validate_every=config.steps,
        frozen_norms=True,
        last_layers=config.last_layers,
        keep=config.keep,
        seed=config.seed,
        parser=parser.config,
        sampling=SamplingConfig(drop_all=0.3),
    )
    trainer = Trainer(plan, data, run, start=run / "start/model.safetensors", device=device)
    for until in range(min(20, config.steps), config.steps + 20, 20):
        trainer.run(until)
        report("train", min(1.0, until / config.steps))
    return load_parser(run / "best")[0]


def interpolate_weights(old: HumanParser, new: HumanParser, share: float) -> HumanParser:
    """A network whose weights lie between those of two: ``share`` of the new ones."""
    if share == 1.0:
        return new
    mixed, weights = HumanParser(new.config), new.state_dict()
    values: dict[str, Any] = {
        name: torch.lerp(value, weights[name], share) if value.is_floating_point() else weights[name]
        for name, value in old.state_dict().items()
    }
    mixed.load_state_dict(values)
    return mixed.eval()


def least_gain_of(config: FinetuneConfig, photos: int) -> float:
    """Returns the smallest mean gain that counts as better, for this number of measured photos."""
    return config.least_gain * (math.sqrt(config.measured / photos) if photos < TOO_FEW else 1.0)
