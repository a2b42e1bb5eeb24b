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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ihp_backend.data.annotated_photos import AnnotatedPhotos
from ihp_backend.data.augment import ViewConfig
from ihp_backend.data.folder import FolderDataSet
from ihp_backend.data.sample import Sample
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.expand_classes import expand_classes
from ihp_backend.network.interpolate_weights import interpolate_weights
from ihp_backend.network.parser import HumanParser
from ihp_backend.network.weights import load_parser, save_parser
from ihp_backend.parts import IGNORE, Schema
from ihp_backend.simulation.sampling import SamplingConfig
from ihp_backend.training.comparison import TOO_FEW, Measured, Verdict, judge, measure, miou
from ihp_backend.training.config import THOROUGH, FinetuneConfig, TrainConfig
from ihp_backend.training.pseudo_labels import PseudoLabeller, Samples, TrainingTarget, first_samples, read_targets
from ihp_backend.training.trainer import Trainer

__all__ = [
    "THOROUGH",
    "FinetuneConfig",
    "Outcome",
    "finetune",
    "has_parts",
    "interpolate_weights",
    "least_gain_of",
]

log = logging.getLogger(__name__)

_CROSSED = 8
"""Photos that cross-validation measures, at most."""


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
    networks = _Networks.load(start, base, train.labels, device)
    targets, tests = _read(train, held_back, networks, config, report)
    if not targets or not tests:
        reason = f"{len(targets)} photos to learn from and {len(tests)} to measure with; at least one of each is needed"
        return Outcome(False, reason, {}, {}, time.monotonic() - began)
    base_check = _base_check(base_data, networks, tests, config)
    started = networks.serve(load_parser(start)[0])
    run = _Run(networks, started, targets, tests, base_check, out / "run", config, report)

    before, old = run.measure_before()
    crossed = run.cross_validate() if len(tests) < TOO_FEW and len(targets) > 1 else []
    tuned = run.train(targets, "whole", config, report)
    candidate = run.choose(tuned, before, old, crossed)

    about = {
        "version": version,
        "parent": networks.info.get("version", start.name),
        "licence": networks.info.get("licence", ""),
        "data": f"{len(targets)} photos of a project",
        "finetune": {**asdict(config), "share_of_new_weights": candidate.share},
        "metrics": {"before": before, "after": candidate.after},
    }
    save_parser(candidate.parser, out, about)
    shutil.rmtree(out / "run", ignore_errors=True)
    verdict = candidate.verdict
    return Outcome(verdict.is_better, verdict.reason, before, candidate.after, time.monotonic() - began)


@dataclass(frozen=True)
class _Networks:
    """The networks that a fine-tuning starts from.

    Attributes:
        parser: Weights to start from, with a channel for each of the project's own labels.
        info: What is known of these weights, as info.json has it.
        own: The project's labels that the base has no class for.
        teacher: The base weights.
        anchor: Weights that new ones are averaged with: the base's, or ``parser`` if the base has been replaced since.
    """

    parser: HumanParser
    info: dict[str, Any]
    own: list[str]
    teacher: Predictor
    anchor: HumanParser

    @classmethod
    def load(cls, start: Path, base: Path, labels: Mapping[str, Sequence[str]], device: str) -> _Networks:
        teacher = Predictor.load(base, device=device)
        parser, info = load_parser(start)
        names = teacher.schema.names
        own = [label for label, parts in labels.items() if not set(parts) & set(names)]
        parser = expand_classes(parser, own)
        anchor = expand_classes(load_parser(base)[0], parser.config.custom_classes)
        if anchor.config != parser.config or not _is_of(str(info.get("version", start.name)), teacher.version):
            anchor = parser
        return cls(parser, info, own, teacher, anchor)

    @property
    def schema(self) -> Schema:
        return self.parser.config.parts

    @property
    def device(self) -> str:
        return str(self.teacher.device)

    def serve(self, parser: HumanParser) -> Predictor:
        return Predictor(parser, device=self.device)


@dataclass(frozen=True)
class _BaseCheck:
    """What shows whether new weights forget.

    Attributes:
        samples: Photos that are measured, with the base's classes.
        rehearsed: Photos of the base data that are learnt from once more; none without base data.
        is_truth: Whether people drew the masks of ``samples``. If not, the teacher predicted them.
    """

    samples: Samples
    rehearsed: list[Sample]
    is_truth: bool


@dataclass(frozen=True)
class _Candidate:
    """Weights that could be the new version: a share of the trained ones, and what they reach."""

    parser: HumanParser
    share: float
    after: dict[str, float]
    verdict: Verdict


@dataclass(frozen=True)
class _Run:
    """One fine-tuning: its photos, how it learns from them, and how it measures."""

    networks: _Networks
    started: Predictor
    """Serves the weights to start from, without channels for labels that are new."""
    targets: list[TrainingTarget]
    tests: list[TrainingTarget]
    base_check: _BaseCheck
    folder: Path
    """Where trainings keep what they need to go on after a kill."""
    config: FinetuneConfig
    report: Callable[[str, float], None]

    def train(
        self,
        targets: Sequence[TrainingTarget],
        name: str,
        config: FinetuneConfig,
        report: Callable[[str, float], None],
    ) -> HumanParser:
        """Trains on some photos, in a folder of this name."""
        networks = self.networks
        return _train(networks.parser, self._material(targets), self.folder / name, config, networks.device, report)

    def _material(self, targets: Sequence[TrainingTarget]) -> Samples:
        """Returns what is learnt from: annotated photos, repeated to be as many as those that are rehearsed."""
        photos = [target.own for target in targets]
        rehearsal = [*([target.base for target in targets] if self.networks.own else []), *self.base_check.rehearsed]
        repeats = max(1, round(len(rehearsal) / len(photos)))
        return Samples(photos * repeats + rehearsal, self.networks.schema)

    def measure_before(self) -> tuple[dict[str, float], Measured]:
        has_other_base = self.networks.anchor is self.networks.parser
        return self._measure("measure before", self.started, self.started if has_other_base else self.networks.teacher)

    def _measure(self, stage: str, predictor: Predictor, of_base: Predictor) -> tuple[dict[str, float], Measured]:
        """Measures the held-back photos with one predictor and the base check with another."""
        self.report(stage, 0.0)
        found = self._measure_photos(predictor, self.tests)
        self.report(stage, 0.7)
        check = self.base_check.samples
        base = {"base": miou(of_base, check, (1.0,))["miou_at_1"]} if has_parts(check) else {}
        self.report(stage, 1.0)
        return found.figures | base, found

    def _measure_photos(self, predictor: Predictor, photos: Sequence[TrainingTarget]) -> Measured:
        return measure(predictor, Samples([target.drawn for target in photos], self.networks.schema))

    def cross_validate(self) -> list[float]:
        """Returns the gains of some photos to learn from, each after a training without it, of a third of the steps.

        One training leaves out a quarter of the photos at most; where that is not enough, there are two.
        """
        most = min(len(self.targets), _CROSSED - len(self.tests))
        folds = 1 if 4 * most <= len(self.targets) else 2
        gains = list[float]()
        for number in range(folds):
            gains += self._gains_of_fold(number, folds, range(number, most, folds))
        self.report("cross-validate", 1.0)
        return gains

    def _gains_of_fold(self, number: int, folds: int, left_out: range) -> list[float]:
        def told(stage: str, share: float) -> None:
            self.report("cross-validate", (number + 0.7 * share) / folds)

        fold = [self.targets[n] for n in left_out]
        others = [target for n, target in enumerate(self.targets) if n not in left_out]
        short = replace(self.config, steps=max(1, self.config.steps // 3))
        tuned = self.networks.serve(self.train(others, f"fold-{number}", short, told))
        old, new = self._measure_photos(self.started, fold), self._measure_photos(tuned, fold)
        return [b - a for a, b in zip(old.photos, new.photos, strict=True)]

    def choose(
        self, tuned: HumanParser, before: dict[str, float], old: Measured, crossed: Sequence[float]
    ) -> _Candidate:
        """Takes the trained weights; while they forget too much, a smaller share of them."""
        for share in (1.0, 0.5, 0.25):
            parser = interpolate_weights(self.networks.anchor, tuned, share)
            served = self.networks.serve(parser)
            after, new = self._measure("measure after", served, served)
            gains = [b - a for a, b in zip(old.photos, new.photos, strict=True)] + list(crossed)
            candidate = _Candidate(parser, share, after, self._judge(before, after, gains, len(crossed)))
            if not candidate.verdict.forgets:
                break
        return candidate

    def _judge(
        self, before: dict[str, float], after: dict[str, float], gains: Sequence[float], crossed: int
    ) -> Verdict:
        least = least_gain_of(self.config, len(gains))
        most_loss = self.config.most_loss * (1 if self.base_check.is_truth else 3)  # a prediction may be wrong itself
        return judge(before, after, gains, crossed=crossed, least_gain=least, most_loss=most_loss)


def _read(
    train: AnnotatedPhotos,
    held_back: AnnotatedPhotos,
    networks: _Networks,
    config: FinetuneConfig,
    report: Callable[[str, float], None],
) -> tuple[list[TrainingTarget], list[TrainingTarget]]:
    """Returns the photos to learn from and those to measure with."""
    labeller = PseudoLabeller(train.labels, networks.schema, networks.teacher)
    targets = read_targets(train, labeller, lambda share: report("read", 0.7 * share))
    tests = read_targets(held_back, labeller, lambda share: report("read", 0.7 + 0.3 * share), config.measured)
    return targets, tests


def _base_check(
    base_data: Path | None, networks: _Networks, tests: Sequence[TrainingTarget], config: FinetuneConfig
) -> _BaseCheck:
    schema = networks.teacher.schema
    if base_data is None or not _is_of_schema(base_data, schema):
        return _BaseCheck(Samples([target.base for target in tests], schema), [], is_truth=False)
    rehearsed = _rehearsal(base_data, range(len(schema), len(networks.schema)), config)
    samples = Samples(first_samples(FolderDataSet(base_data, "val"), config.measured), schema)
    return _BaseCheck(samples, rehearsed, is_truth=True)


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


def least_gain_of(config: FinetuneConfig, photos: int) -> float:
    """Returns the smallest mean gain that counts as better, for this number of measured photos."""
    return config.least_gain * (math.sqrt(config.measured / photos) if photos < TOO_FEW else 1.0)
