"""How well ``ihp review`` finds wrong labels: some are made wrong, and where they come in its order is counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ihp_backend.data.sample import DataSet
from ihp_backend.evaluation.doubts import MISSING, doubts
from ihp_backend.inference.predictor import Predictor

_TOPS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Shares of all masks that are looked at, the most doubtful first."""


@dataclass(frozen=True)
class Judged:
    """A mask of a photo.

    Attributes:
        photo: Its place in the data set.
        label: What it is said to be.
        doubt: 0 to 1.
        made: ``swapped`` or ``cut``, if it was made wrong; else an empty text.
    """

    photo: int
    label: str
    doubt: float
    made: str


def measure(
    predictor: Predictor,
    data: DataSet,
    *,
    share: float = 0.05,
    seed: int = 0,
    missing: float = MISSING,
    quiet: bool = False,
) -> list[Judged]:
    """Makes some of a data set's masks wrong, and judges all.

    A swapped mask gets a label that the photo does not have. Of a cut one a third to two thirds are left, at one side
    of a straight line; the rest has no label.

    Args:
        predictor: Weights that have not seen the photos.
        data: Photos with labels.
        share: Of all masks, so many are made wrong, half of them swapped.
        seed: Decides which, and how.
        missing: How much it counts that more of a label is seen beside its mask.
        quiet: No progress bar.
    """
    rng = np.random.default_rng(seed)
    names = [data.schema.names[i] for i in range(1, len(data.schema))]
    parts = {name: predictor.schema.find(name) for name in names}
    labels = {name: () if part is None else (predictor.schema.names[part],) for name, part in parts.items()}
    known = [number for number, name in enumerate(names, 1) if labels[name]]
    found = []
    for index in tqdm(range(len(data)), desc="wrong labels", unit="photo", disable=quiet):
        sample = data[index]
        ids, made = _with_wrong_ones(sample.labels, known, share, rng)
        for doubt in doubts(predictor.open(sample.image), ids, labels, missing):
            found.append(Judged(index, doubt.label, doubt.doubt, made.get(names.index(doubt.label) + 1, "")))
    return found


def _with_wrong_ones(
    labels: NDArray[np.uint8], known: Sequence[int], share: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Labels (H, W) with some masks made wrong, and how, by the id that they now have."""
    ids, made = labels.copy(), dict[int, str]()
    there = [int(i) for i in np.unique(labels) if i in known]
    absent = [i for i in known if i not in there]
    for number in there:
        draw, kind, pick = rng.random(), rng.random(), rng.random()
        mask = labels == number
        if draw >= share:
            continue
        if kind < 0.5 and absent:
            wrong = absent.pop(int(pick * len(absent)))
            ids[mask] = wrong
            made[wrong] = "swapped"
        else:
            ids[mask & ~_cut(mask, rng)] = 0
            made[number] = "cut"
    return ids, made


def _cut(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A third to two thirds of a mask (H, W), at one side of a straight line."""
    rows, columns = np.nonzero(mask)
    angle = rng.uniform(0, 2 * np.pi)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    kept = along <= np.quantile(along, rng.uniform(1 / 3, 2 / 3))
    found = np.zeros_like(mask)
    found[rows[kept], columns[kept]] = True
    return found


def summary(judged: Sequence[Judged]) -> dict[str, Any]:
    """Returns precision and recall among the most doubtful masks, and the photos, ready for JSON."""
    order = sorted(judged, key=lambda mask: -mask.doubt)
    wrong = np.array([bool(mask.made) for mask in order])
    photos = {mask.photo: False for mask in order}  # in the order of each one's most doubtful mask
    for mask in judged:
        photos[mask.photo] |= bool(mask.made)
    return {
        "masks": len(order),
        "wrong": int(wrong.sum()),
        "top": [*_tops(wrong)],
        "found_in_top_tenth": {kind: _found(order, kind, len(order) // 10) for kind in ("swapped", "cut")},
        "photos": len(photos),
        "photos_with_a_wrong_mask": sum(photos.values()),
        "top_photos": [*_tops(np.array([*photos.values()]))],
    }


def _found(order: Sequence[Judged], kind: str, count: int) -> float:
    """Which share of the masks that were made wrong in one way is among the first."""
    made = [mask.made == kind for mask in order]
    return round(sum(made[:count]) / max(1, sum(made)), 3)


def _tops(wrong: NDArray[np.bool_]) -> Iterator[dict[str, float]]:
    for share in _TOPS:
        count = max(1, round(share * len(wrong)))
        hits = int(wrong[:count].sum())
        yield {
            "share": share,
            "looked_at": count,
            "precision": round(hits / count, 3),
            "recall": round(hits / max(1, int(wrong.sum())), 3),
        }
