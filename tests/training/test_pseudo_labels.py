"""What is learnt of annotations, by hand: a teacher whose opinion is known, and masks over it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ihp_backend.data.sample import Sample
from ihp_backend.geometry import Box, View
from ihp_backend.parts import IGNORE, LIP
from ihp_backend.training.pseudo_labels import PseudoLabeller, Samples, first_samples

HAT, COAT, DRESS, FACE = (LIP.names.index(name) for name in ("hat", "coat", "dress", "face"))


def columns(*ids: int) -> NDArray[np.uint8]:
    """Columns of one class each, 4 pixels wide."""
    return np.tile(np.repeat(np.array(ids, np.uint8), 4), (8, 1))


class Opinion:
    """Says a class for each column, with a probability; restricted, always the last of the allowed ones."""

    def __init__(self, ids: NDArray[np.uint8], sure: float) -> None:
        height, width = ids.shape
        self.ids = ids
        self.view = View(Box(0, 0, width, height), height, width)
        self.probabilities = np.full((2, height // 2, width // 2), sure, np.float32)

    def label_map(self, allowed: Any = None) -> NDArray[np.uint8]:
        return self.ids if allowed is None else np.full_like(self.ids, allowed[-1])


class Teacher:
    def __init__(self, ids: NDArray[np.uint8], sure: float = 0.9) -> None:
        self.ids, self.sure = ids, sure

    def parse(self, image: NDArray[np.uint8]) -> Opinion:
        return Opinion(self.ids, self.sure)


LABELS = {"Face": ("face",), "Bag": (), "Outfit": ("coat", "dress"), "Cap": ("hat",)}
SCHEMA = LIP.extended(["Bag"])
BAG = 20


def target(drawn: NDArray[np.uint8], teacher: Teacher) -> Any:
    labeller = PseudoLabeller(LABELS, SCHEMA, teacher)  # type: ignore[arg-type]
    return labeller.target(Sample("one", np.zeros((*drawn.shape, 3), np.uint8), drawn))


def test_masks_count_and_the_teacher_fills_the_rest() -> None:
    said = columns(0, FACE, FACE, COAT, HAT, LIP.names.index("pants"))
    drawn = columns(0, 1, 0, 3, 0, 2)  # face drawn in one of its columns, outfit, and a bag over the pants
    found = target(drawn, Teacher(said))
    # The rest of the face was left out by the annotator; the hat nobody was asked for; the teacher's pants are a bag.
    assert found.own.labels[0, ::4].tolist() == [0, FACE, 0, DRESS, IGNORE, BAG]
    # The base is rehearsed where the project has no opinion of it: under its own label, and where it drew nothing.
    assert found.base.labels[0, ::4].tolist() == [0, IGNORE, FACE, IGNORE, HAT, LIP.names.index("pants")]
    assert found.base.unknown == (BAG,)
    assert found.own.unknown == ()
    # Measured is what was drawn, and the rest as background.
    assert found.drawn.labels[0, ::4].tolist() == [0, FACE, 0, DRESS, IGNORE, BAG]


def test_what_annotators_drew_over_is_not_there_beside_their_masks() -> None:
    said = columns(*[LIP.names.index("pants")] * 3, HAT, HAT, HAT, FACE)
    drawn = columns(2, 2, 0, 2, 0, 0, 0)  # a bag over two of three columns of pants, and over one of three of a hat
    found = target(drawn, Teacher(said))
    assert found.own.labels[0, ::4].tolist() == [BAG, BAG, IGNORE, BAG, IGNORE, IGNORE, IGNORE]
    labels = {"Face": ("face",), "Bag": ()}  # nobody in this project asks for hats: the teacher's opinion counts
    labeller = PseudoLabeller(labels, SCHEMA, Teacher(said))  # type: ignore[arg-type]
    found = labeller.target(Sample("one", np.zeros((*drawn.shape, 3), np.uint8), drawn))
    assert found.own.labels[0, ::4].tolist() == [BAG, BAG, IGNORE, BAG, HAT, HAT, IGNORE]
    # Measured is what was drawn against everything else: a bag that runs over a hat is wrong.
    assert found.drawn.labels[0, ::4].tolist() == [BAG, BAG, IGNORE, BAG, 0, 0, IGNORE]


def test_a_teacher_who_is_not_sure_says_nothing() -> None:
    found = target(columns(1, 0), Teacher(columns(0, 0), sure=0.5))
    assert found.own.labels[0, ::4].tolist() == [FACE, IGNORE]
    assert (found.base.labels == IGNORE).all()


def test_a_label_that_nothing_stands_for_is_told() -> None:
    with pytest.raises(ValueError, match="'Umbrella'"):
        PseudoLabeller({"Umbrella": ()}, SCHEMA, Teacher(columns(0)))  # type: ignore[arg-type]


def test_large_photos_are_reduced_with_their_labels() -> None:
    labels = np.zeros((1200, 1600), np.uint8)
    labels[:, 800:] = 7
    data = Samples([Sample("one", np.zeros((1200, 1600, 3), np.uint8), labels)], LIP)
    (small,) = first_samples(data, 3)
    assert small.labels.shape == (600, 800)
    assert (small.labels[:, :400] == 0).all()
    assert (small.labels[:, 400:] == 7).all()
