"""What a project's own labels mean, read off its accepted masks: the parts of the label set that lie in them.

A label that the label set does not know is clicked through an open-class channel, which sees nothing but the clicks.
Most such labels are parts under another name, or several of them ("Outfit", "Legwear"). Where accepted masks show it,
the label gets those parts' channels, as if ``predicted_values`` named them: with the next click, without a training.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.cache import LoadingCache
from ihp_backend.files import is_file_name, locked, write_whole
from ihp_backend.inference.prompts import Prompts
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.logs import fields
from ihp_backend.parts import Schema
from ihp_backend.stored_records import read_record

if TYPE_CHECKING:
    from ihp_backend.inference.predictor import Predictor

logger = logging.getLogger(__name__)

LEAST_IOU = 0.5
"""Parts stand for a label if their union has at least this IoU with its masks; ``ihp meanings`` shows its worth."""
_LONGEST = 640
"""Longer side, in pixels, at which masks and parts are compared."""
_MOST_ANNOTATIONS = 300
_MOST_LABELS = 40
_FINEST = 1e-5
"""Shares of the photo below this are left out."""


@dataclass(frozen=True)
class Overlaps:
    """How the masks of one annotation lie over the parts that the network sees without a click.

    Attributes:
        seen: Share of the photo that each part covers.
        areas: Share of the photo that the masks of each label cover.
        shared: For each label, the share of the photo that it has in common with each part.
    """

    seen: Mapping[str, float]
    areas: Mapping[str, float]
    shared: Mapping[str, Mapping[str, float]]

    @classmethod
    def read(
        cls, predictor: Predictor, image: NDArray[np.uint8], labels: NDArray[np.uint8], ids: Mapping[str, int]
    ) -> Overlaps:
        """Parses a photo without a click, and compares its masks with what is seen.

        Args:
            predictor: The weights.
            image: (H, W, 3) uint8 RGB.
            labels: (H, W) uint8, with the ids of the labels' masks.
            ids: The id of each label.
        """
        height, width = labels.shape
        scale = min(1.0, _LONGEST / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        parse = predictor.open(small, None).parse(Prompts(everyone=True))
        masks = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8)
        return cls.of(masks, ids, parse.label_map(), predictor.schema)

    @classmethod
    def of(
        cls, labels: NDArray[np.uint8], ids: Mapping[str, int], parts: NDArray[np.uint8], schema: Schema
    ) -> Overlaps:
        """Compares masks with parts.

        Args:
            labels: (H, W) uint8, with the ids of the labels' masks.
            ids: The id of each label.
            parts: (H, W) uint8 ids of the schema, those of the background being 0.
            schema: The label set.
        """
        count = np.bincount(labels.astype(np.int64).ravel() * 256 + parts.ravel(), minlength=256 * 256)
        table = count.reshape(256, 256)[:, : len(schema)] / labels.size
        there = {name: table[i] for name, i in ids.items() if table[i].any()}
        areas = {name: float(shares.sum()) for name, shares in there.items()}
        shared = {name: _named(shares, schema) for name, shares in there.items()}
        return cls(_named(table.sum(0), schema), areas, shared)


def _named(shares: NDArray[np.float64], schema: Schema) -> dict[str, float]:
    return {schema.names[i]: round(float(shares[i]), 6) for i in range(1, len(schema)) if shares[i] >= _FINEST}


def meaning(label: str, annotations: Iterable[Overlaps], excluded: Iterable[str] = ()) -> tuple[str, ...]:
    """Returns the parts whose union is most like the masks of a label, over all annotations that have one.

    Parts are taken by the share of them that lies in the masks, for as long as the IoU of their union with the masks
    grows.

    Args:
        label: The label.
        annotations: What was accepted.
        excluded: Parts that other labels stand for.

    Returns:
        The parts; none if their union has an IoU below ``LEAST_IOU``.
    """
    area, seen, shared = 0.0, dict[str, float](), dict[str, float]()
    for overlaps in annotations:
        if label in overlaps.areas:
            area += overlaps.areas[label]
            for part, share in overlaps.seen.items():
                seen[part] = seen.get(part, 0.0) + share
                shared[part] = shared.get(part, 0.0) + overlaps.shared.get(label, {}).get(part, 0.0)
    excluded = set(excluded)
    found: list[str] = []
    best = inside = covered = 0.0
    for part in sorted((part for part in seen if seen[part] > 0), key=lambda part: (-shared[part] / seen[part], part)):
        iou = (inside + shared[part]) / (area + covered + seen[part] - inside - shared[part])
        if part in excluded or iou <= best:
            continue
        best, inside, covered = iou, inside + shared[part], covered + seen[part]
        found.append(part)
    return tuple(found) if best >= LEAST_IOU else ()


def meanings(
    labels: Sequence[str], annotations: Sequence[Overlaps], known: Iterable[str], schema: Schema
) -> dict[str, tuple[str, ...]]:
    """Returns the parts that each label takes. A part is taken once: the label with most pixels comes first.

    Args:
        labels: Labels that the schema does not know.
        annotations: What was accepted. Those that were compared with the parts of another label set do not count.
        known: Parts that other labels stand for.
        schema: The label set.
    """
    taken = set(known)
    found: dict[str, tuple[str, ...]] = dict.fromkeys(labels, ())
    annotations = [overlaps for overlaps in annotations if set(schema.names).issuperset(overlaps.seen)]
    for label in sorted(labels, key=lambda label: -sum(o.areas.get(label, 0.0) for o in annotations)):
        found[label] = meaning(label, annotations, taken)
        taken.update(found[label])
    return found


@dataclass(frozen=True)
class _Kept:
    """What is kept of a project: the fields of ``Overlaps`` by the number of the annotation, the oldest first."""

    seen: dict[str, dict[str, float]] = field(default_factory=dict)
    areas: dict[str, dict[str, float]] = field(default_factory=dict)
    shared: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    def overlaps(self) -> dict[str, Overlaps]:
        whole = [number for number in self.seen if number in self.areas and number in self.shared]
        return {number: Overlaps(self.seen[number], self.areas[number], self.shared[number]) for number in whole}

    @classmethod
    def of(cls, overlaps: Mapping[str, Overlaps]) -> _Kept:
        return cls(*({number: getattr(o, name) for number, o in overlaps.items()} for name in _FIELDS))


_FIELDS = ("seen", "areas", "shared")


class LabelMeanings:
    """What is known of the labels of all projects: a small file for each, which all replicas read.

    Args:
        folder: Where the files are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._learnt: LoadingCache[tuple[Any, ...], dict[str, tuple[str, ...]]] = LoadingCache(100, lambda found: 1)

    def parts(self, project: str | None, config: LabelConfig, schema: Schema) -> dict[str, tuple[str, ...]]:
        """Returns, for each label of a config, the parts that it stands for: those it says, else those it learnt.

        Args:
            project: Label Studio's id; ``None`` if it is not known.
            config: The project's label config.
            schema: The label set of the weights that answer.
        """
        found = config.parts(schema)
        own = [label for label, parts in found.items() if not parts]
        if not project or not own or config.meanings == "told":
            return found
        state = self._state(project)
        if state is None:
            return found
        known = {part for parts in found.values() for part in parts}
        return found | self._learnt.get(
            (project, state, tuple(found.items()), schema.names),
            lambda: meanings(own, list(self._known(project).values()), known, schema),
        )

    def note(self, project: str, annotation: int, overlaps: Overlaps) -> None:
        """Keeps what an annotation shows, instead of what it has shown before.

        Raises:
            OSError: If it cannot be written.
        """
        if len(overlaps.areas) <= _MOST_LABELS:
            self._change(project, [annotation], {str(annotation): overlaps})

    def forget(self, project: str, annotations: Sequence[int]) -> None:
        """Forgets annotations that are no more.

        Raises:
            OSError: If it cannot be written.
        """
        self._change(project, annotations, {})

    def _change(self, project: str, gone: Sequence[int], new: Mapping[str, Overlaps]) -> None:
        path = self._path(project)
        with locked(path.with_suffix(".lock")):
            before = self._known(project)
            dropped = {str(number) for number in gone}
            after = {number: kept for number, kept in before.items() if number not in dropped} | dict(new)
            if after != before:
                newest = dict(list(after.items())[-_MOST_ANNOTATIONS:])
                write_whole(path, json.dumps(asdict(_Kept.of(newest))))

    def _path(self, project: str) -> Path:
        if not is_file_name(project):
            raise ValueError(f"the project {project!r:.200} could not be a file's name")
        return self._folder / f"{project}.json"

    def _state(self, project: str) -> tuple[int, ...] | None:
        """Tells one content of a project's file from another; ``None`` if there is no file."""
        try:
            now = self._path(project).stat()
        except (OSError, ValueError):
            return None
        return now.st_mtime_ns, now.st_size, now.st_ino

    def _known(self, project: str) -> dict[str, Overlaps]:
        """What is kept of a project. A file that is damaged counts as empty, and is named in the log."""
        try:
            return read_record(_Kept, self._path(project)).overlaps()
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            line = fields(project=project)
            logger.warning("what the labels of a project mean is learnt anew: %s", error, extra=line)
            return {}
