"""Several people without a click: of each person a mask for each part.

The masks are those of the whole photo, divided among the people. What is doubtful of a person is left out, as of a
photo: a part that takes too little of them, or of which the network is not certain enough there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.inference.photo_session import PhotoSession
from ihp_backend.inference.prediction import Prediction

MOST_PEOPLE = 20
"""So many people get masks, the largest ones: each has up to as many as there are labels."""


@dataclass(frozen=True)
class PersonPart:
    """A part of one person.

    Attributes:
        person: 1 is the largest one, 2 the next.
        label: What it is.
        mask: (H, W) bool.
        score: Expected IoU, 0 to 1.
    """

    person: int
    label: str
    mask: NDArray[np.bool_]
    score: float


def person_parts(
    session: PhotoSession, prediction: Prediction, labels: Mapping[str, tuple[str, ...]]
) -> Iterator[PersonPart]:
    """Divides a prediction without clicks among the people, one mask at a time.

    Args:
        session: The photo.
        prediction: Its prediction.
        labels: Every label of the project and the schema's parts that it stands for.
    """
    parse, people = prediction.parse, prediction.people
    owners = people.owners(parse.view)
    numbers: NDArray[np.uint8] = np.zeros(owners.shape, np.uint8)
    for number, person in enumerate([*people.boxes][:MOST_PEOPLE], 1):
        numbers[owners == person] = number
    whose = _enlarged(numbers, parse.view.box.width, parse.view.box.height)
    for number in range(1, int(numbers.max(initial=0)) + 1):
        own = parse.within(numbers == number)
        for label in session.suggested(own, labels):
            if label not in prediction.masks:
                continue
            mask = np.zeros_like(prediction.masks[label])
            inside = parse.view.box.slices
            mask[inside] = prediction.masks[label][inside] & (whose == number)
            if mask.any():
                yield PersonPart(number, label, mask, own.score(label))


def _enlarged(numbers: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Numbers (h, w) at another size (height, width): between two of them lies a smooth edge."""
    best: NDArray[np.uint8] = np.zeros((height, width), np.uint8)
    found: NDArray[np.uint8] = np.zeros((height, width), np.uint8)
    for number in np.unique(numbers):
        share: NDArray[Any] = cv2.resize(np.where(numbers == number, 255, 0).astype(np.uint8), (width, height))
        found[share > best] = number
        best = np.maximum(best, share).astype(np.uint8)
    return found
