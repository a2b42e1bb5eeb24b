"""Several people without a click: each part of each person once, and nobody else's pixels."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from drawn_group import group
from numpy.typing import NDArray

from ihp_backend.inference import person_parts as module
from ihp_backend.inference.person_parts import PersonPart, person_parts
from ihp_backend.inference.prediction import Prediction
from ihp_backend.inference.predictor import Predictor
from ihp_backend.inference.prompts import Prompts
from ihp_backend.parts import CIHP

LABELS = {name.title(): (name,) for name in CIHP.names}


@cache
def shipped() -> Predictor:
    return Predictor.load("cihp", device="cpu")


def found_in(image: NDArray[np.uint8]) -> tuple[Prediction, list[PersonPart]]:
    session = shipped().open(image)
    prediction = session.predict(Prompts(labels=LABELS))
    return prediction, list(person_parts(session, prediction, LABELS))


@pytest.mark.parametrize(("seeds", "step"), [((0, 1, 2), 230), ((0, 1), 150)], ids=["apart", "who touch"])
def test_each_part_of_each_person_is_once_there_and_theirs(seeds: tuple[int, ...], step: int) -> None:
    image, labels = group(*seeds, step=step)
    prediction, parts = found_in(image)
    kinds = [(part.person, part.label) for part in parts]
    assert len(set(kinds)) == len(kinds)
    assert {part.person for part in parts} == set(range(1, len(seeds) + 1))
    assert [part.person for part in parts] == sorted(part.person for part in parts), "the largest person first"
    for one, other in combinations(parts, 2):
        assert not (one.mask & other.mask).any()
    on = np.array([[(part.mask & (who > 0)).sum() for who in labels] for part in parts])
    owners = {person: on[[p.person == person for p in parts]].sum(0).argmax() for person, _ in kinds}
    assert len(set(owners.values())) == len(seeds), "two numbers for one person"
    strays = [row.sum() - row[owners[part.person]] for part, row in zip(parts, on, strict=True)]
    assert sum(strays) < 0.03 * on.sum()
    for label, whole in prediction.masks.items():
        together = sum((part.mask for part in parts if part.label == label), np.zeros_like(whole))
        assert not (together & ~whole).any()
    everything = np.sum([part.mask for part in parts], axis=0)
    assert everything.sum() > 0.97 * np.sum([*prediction.masks.values()])


def test_alone_is_answered_as_the_whole_photo_is() -> None:
    image, _ = group(0, step=0)
    prediction, parts = found_in(image)
    assert {part.person for part in parts} == {1}
    for part in parts:
        assert (part.mask != prediction.masks[part.label]).sum() <= 0.02 * part.mask.sum()
        assert 0 < part.score <= 1


def test_how_many_people_get_masks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    image, _ = group(0, 1, 2, step=230)
    monkeypatch.setattr(module, "MOST_PEOPLE", 2)
    _, parts = found_in(image)
    assert {part.person for part in parts} == {1, 2}
    assert len(parts) <= 2 * (len(LABELS) - 1)


def test_a_photo_of_nobody_has_no_masks() -> None:
    _, parts = found_in(np.full((120, 160, 3), 128, np.uint8))
    assert parts == []
