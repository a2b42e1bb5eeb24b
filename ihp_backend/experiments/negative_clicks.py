"""What one negative click takes away: of the wrong piece that it is clicked into, and of what was right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ihp_backend.clicks import Click
from ihp_backend.data.sample import DataSet, Sample
from ihp_backend.inference.photo_session import PhotoSession
from ihp_backend.inference.predictor import Predictor
from ihp_backend.inference.prompts import Prompts
from ihp_backend.parts import IGNORE
from ihp_backend.simulation.sampling import distance_inside

_LEAST_DEPTH = 0.008
"""Pieces that are nowhere deeper than this share of the photo's longer side are edges that are not exact."""


@dataclass(frozen=True)
class NegativeClick:
    """One negative click, in the middle of a wrong piece of a mask that one positive click made.

    Attributes:
        photo: The photo's name.
        label: The label of the mask.
        pixels: Size of the piece.
        gone: Share of the piece that the click took away.
        lost: Share of what was right of the mask that it took away, too.
    """

    photo: str
    label: str
    pixels: int
    gone: float
    lost: float


def measure(
    predictor: Predictor, data: DataSet, *, own_labels: bool = False, quiet: bool = False
) -> list[NegativeClick]:
    """Clicks each part of each photo once, then into each wrong piece of its mask, one piece at a time.

    Args:
        predictor: Answers.
        data: Photos with labels.
        own_labels: Only the labels that the predictor's schema does not know: their clicks alone define them.
        quiet: No progress bar.
    """
    found = []
    for index in tqdm(range(len(data)), desc="negative clicks", unit="photo", disable=quiet):
        sample = data[index]
        session = predictor.open(sample.image, f"negative clicks {index}")
        for number in (int(i) for i in np.unique(sample.labels) if i not in (0, IGNORE)):
            name = data.schema.names[number]
            part = predictor.schema.find(name)
            if (part is None) == own_labels:
                parts: dict[str, tuple[str, ...]] = {name: () if part is None else (predictor.schema.names[part],)}
                found += [*_of_a_label(session, sample, name, sample.labels == number, parts)]
    return found


def summary(found: list[NegativeClick]) -> dict[str, Any]:
    """Returns medians and quartiles, ready for JSON."""
    gone, lost = (np.array([getattr(c, name) for c in found] or [0.0]) for name in ("gone", "lost"))
    return {
        "clicks": len(found),
        "gone_median": round(float(np.median(gone)), 4),
        "gone_lower_quartile": round(float(np.quantile(gone, 0.25)), 4),
        "lost_median": round(float(np.median(lost)), 4),
        "lost_upper_quartile": round(float(np.quantile(lost, 0.75)), 4),
    }


def _of_a_label(
    session: PhotoSession, sample: Sample, label: str, truth: NDArray[np.bool_], parts: dict[str, tuple[str, ...]]
) -> Iterator[NegativeClick]:
    first = Click(*_middle(truth), label)
    before = session.predict(Prompts([first], labels=parts, wanted=[label])).masks[label]
    right = before & truth
    for piece in _pieces(before & ~truth & (sample.labels != IGNORE)):
        click = Click(*_middle(piece), label, is_positive=False)
        after = session.predict(Prompts([first, click], labels=parts, wanted=[label])).masks[label]
        gone = 1 - float((piece & after).sum() / piece.sum())
        lost = float((right & ~after).sum() / max(1, right.sum()))
        yield NegativeClick(sample.name, label, int(piece.sum()), gone, lost)


def _pieces(wrong: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """The connected pieces of a mask's errors (H, W) that somebody would click on."""
    depth = _LEAST_DEPTH * max(wrong.shape)
    count, numbers = cv2.connectedComponents(wrong.astype(np.uint8), connectivity=4)
    for number in range(1, count):
        piece = numbers == number
        if distance_inside(piece).max() >= depth:
            yield piece


def _middle(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """The innermost place (x, y) of a mask."""
    row, column = np.unravel_index(int(distance_inside(mask).argmax()), mask.shape)
    return float(column) + 0.5, float(row) + 0.5
