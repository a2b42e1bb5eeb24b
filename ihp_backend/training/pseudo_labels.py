"""From a project's annotations to what a network can be taught: every pixel gets a channel, or is left out.

Annotators label what they need, not everything. So a pixel without a mask is background only where that is likely; the
base network, as a teacher, says what it is otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ihp_backend.data.annotated_photos import AnnotatedPhotos
from ihp_backend.data.catalogue import spread_photos
from ihp_backend.data.sample import DataError, DataSet, Sample, reduced
from ihp_backend.inference.predictor import Predictor
from ihp_backend.parts import IGNORE, Schema, get_schema

log = logging.getLogger(__name__)

_SURE = 0.8
"""Where the teacher's probability is less, its opinion does not count."""
_TAKEN = 0.5
"""A part of the teacher's of which annotators drew more than this share as something else is not there at all."""
_LONGEST = 800
"""Photos are reduced to this longer side: the network's working size is below it."""


@dataclass(frozen=True)
class TrainingTarget:
    """One annotated photo, ready to learn from.

    Attributes:
        own: In the project's labels: what was annotated, and what is likely of the rest.
        drawn: What was annotated, and as background what is likely something else, to measure with: a label that runs
            over a part of the teacher's is wrong there.
        base: In the base's parts alone, by the teacher: what must not be forgotten. Pixels of which the project has its
            own opinion are left out.
    """

    own: Sample
    drawn: Sample
    base: Sample


class PseudoLabeller:
    """Translates annotations in a project's labels into ids of a schema that knows them all."""

    def __init__(self, labels: Mapping[str, tuple[str, ...]], schema: Schema, teacher: Predictor) -> None:
        """Takes the project's labels with the parts they stand for, the schema, and the base network.

        Args:
            labels: In their order; a label without a part of the base is its own part.
            schema: The base's schema and the project's own labels behind it.
            teacher: The base network.
        """
        self.schema, self.teacher = schema, teacher
        known = len(get_schema(schema.name))
        self._ids = [_ids_of(label, parts, schema, known) for label, parts in labels.items()]
        self._own = tuple(range(known, len(schema)))

    def target(self, sample: Sample) -> TrainingTarget:
        """Translates a photo whose labels are 0 (no mask) and k + 1 (the project's k-th label)."""
        sample = _reduced(sample)
        parse = self.teacher.parse(sample.image)
        predicted = parse.label_map()
        sure = np.zeros(predicted.shape, np.float32)
        sure[parse.view.box.slices] = parse.view.enlarge(parse.probabilities.max(0))
        opinion = np.where(sure >= _SURE, predicted, IGNORE).astype(np.uint8)

        drawn = [k for k in range(len(self._ids)) if (sample.labels == k + 1).any()]
        theirs = {i for ids in self._ids for i in ids}
        here = {i for k in drawn for i in self._ids[k]}
        own = opinion.copy()
        # A part that was drawn in this photo is nowhere else; one that the project knows and nobody drew is not asked.
        own[np.isin(opinion, sorted(here - {0}))] = 0
        own[np.isin(opinion, sorted(theirs - here - {0}))] = IGNORE
        own[np.isin(opinion, sorted(self._mistaken(opinion, sample.labels > 0) - here - {0}))] = IGNORE
        base = opinion
        for k in drawn:
            ids, mask = self._ids[k], sample.labels == k + 1
            if len(ids) == 1:
                own[mask] = ids[0]
            else:  # of several parts, the one that is likeliest
                likeliest = parse.label_map(allowed=ids)[mask]
                own[mask] = np.where(np.isin(likeliest, ids), likeliest, ids[0])
            if ids[0] not in self._own:
                base[mask] = IGNORE
        asked = np.where(np.isin(own, [*here, IGNORE]), own, np.uint8(0))
        return TrainingTarget(
            Sample(sample.name, sample.image, own),
            Sample(sample.name, sample.image, asked),
            Sample(sample.name, sample.image, base, unknown=self._own),
        )

    def _mistaken(self, opinion: NDArray[np.uint8], drawn: NDArray[np.bool_]) -> set[int]:
        """The parts of which so much was drawn over that what is left of them is slivers beside the masks."""
        there, covered = (np.bincount(ids, minlength=256) for ids in (opinion.ravel(), opinion[drawn]))
        return {int(i) for i in np.flatnonzero(covered > _TAKEN * there)}


class Samples:
    """Samples in memory as a data set."""

    def __init__(self, samples: Sequence[Sample], schema: Schema) -> None:
        self.samples, self.schema, self.names = list(samples), schema, [s.name for s in samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        """Returns a sample by its place."""
        return self.samples[index]


def first_samples(data: DataSet, count: int) -> list[Sample]:
    """Reads evenly spread samples of a data set, so many at most."""
    spread = spread_photos(data, count)
    return [_reduced(spread[i]) for i in range(len(spread))]


def _ids_of(label: str, parts: Sequence[str], schema: Schema, known: int) -> list[int]:
    ids = [i for i in (schema.find(part) for part in parts) if i is not None and i < known]
    own = schema.find(label)
    if not ids and own is None:
        raise ValueError(f"label {label!r} stands for {parts}; schema {schema.name} and its own labels lack them")
    return ids or [own if own is not None else 0]


def _reduced(sample: Sample) -> Sample:
    small = reduced(sample, _LONGEST)
    return sample if small is sample else Sample(small.name, small.image, small.labels, small.unknown)


def read_targets(
    photos: AnnotatedPhotos, labeller: PseudoLabeller, report: Callable[[float], None], most: int | None = None
) -> list[TrainingTarget]:
    """Reads annotated photos; leaves out those that cannot be read, with a log line, and those without a part.

    Args:
        photos: Annotated photos.
        labeller: Makes a target of each.
        report: Told the share of the photos that is done.
        most: So many photos are read, the first ones; all by default.
    """
    targets = []
    for index in range(min(len(photos), most or len(photos))):
        try:
            targets.append(labeller.target(photos[index]))
        except DataError as error:
            log.warning("a photo was left out: %s", error)
        report((index + 1) / len(photos))
    return [target for target in targets if np.any((target.own.labels != IGNORE) & (target.own.labels > 0))]
