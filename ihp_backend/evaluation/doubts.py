"""Which masks of a photo are likely wrong: those that weights which never saw the photo disagree with.

A label's mask is doubtful if the network gives little probability to the label inside of it: it is another part, or
spills over (the self-confidence of Northcutt, Jiang and Chuang, "Confident Learning", JAIR 2021, for masks). It is
doubtful, too, if the network expects much of the label where the annotator has left the photo free: it was cut short.
Places that other labels have taken do not count against it: there, the other mask is the doubtful one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ihp_backend.geometry import box_of
from ihp_backend.inference.photo_session import PhotoSession
from ihp_backend.inference.prediction import Parse
from ihp_backend.inference.prompts import Prompts

MISSING = 6.0
"""How much it counts that the network expects more of a label beside its mask; 0: not at all."""


@dataclass(frozen=True)
class Doubt:
    """How doubtful a label's mask is.

    Attributes:
        label: What the mask is said to be.
        doubt: 0: surely right, to 1: surely wrong.
        reason: What the network sees instead, in a few words.
    """

    label: str
    doubt: float
    reason: str


def doubts(
    session: PhotoSession, ids: NDArray[np.uint8], labels: Mapping[str, tuple[str, ...]], missing: float = MISSING
) -> list[Doubt]:
    """Compares an annotation with what the network says without a click.

    Args:
        session: The photo.
        ids: (H, W) the annotation: 0 where it is free, k + 1 for the k-th of the labels; more: nobody knows.
        labels: The labels, and the schema's parts that each stands for. Those without a part, or of the background,
            cannot be judged.
        missing: See ``MISSING``.

    Returns:
        One for each label that has a mask and a part, the most doubtful first.
    """
    parse = session.parse(Prompts(labels=labels))
    view, probabilities = parse.view, parse.probabilities
    background = parse.channels.schema.names[:1]
    seen = {
        label: probabilities[list(channels)].sum(0)
        for label in labels
        if labels[label] not in ((), background) and (channels := parse.channels.of(label))
    }
    free = _coverage(parse, ids == 0)
    cell = view.box.width * view.box.height / free.size
    found = []
    for number, label in enumerate(labels, 1):
        mask = ids == number
        if label not in seen or not mask.any():
            continue
        inside, size = _coverage(parse, mask), float(mask.sum())
        own = float((seen[label] * inside).sum()) * cell / size
        beside = float((seen[label] * free).sum()) * cell
        is_whole = (1 - beside / (size + beside)) ** missing
        others = {other: float((there * inside).sum()) * cell / size for other, there in seen.items() if other != label}
        found.append(Doubt(label, min(1.0, max(0.0, 1 - own * is_whole)), _reason(own, is_whole, others)))
    return sorted(found, key=lambda doubt: -doubt.doubt)


def _coverage(parse: Parse, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Which share of each stride-2 pixel of the parse a mask (H, W) covers, (h, w)."""
    box = box_of(mask)
    return np.zeros(parse.view.grid, np.float32) if box is None else parse.view.coverage(mask, box)


def _reason(own: float, is_whole: float, others: Mapping[str, float]) -> str:
    if is_whole < own:
        return "more of it is seen beside the mask"
    likely = max(others, key=lambda other: others[other], default="")
    return f"looks like {likely}" if likely and others[likely] > max(own, 0.25) else "little of it is seen there"
