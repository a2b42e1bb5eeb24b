"""The measure of negative clicks, on a model whose masks are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ihp_backend.data.sample import Sample
from ihp_backend.experiments.negative_clicks import measure, summary
from ihp_backend.inference.prediction import Prediction
from ihp_backend.inference.prompts import Prompts
from ihp_backend.parts import IGNORE, LIP, Part, Schema


def block(top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
    mask = np.zeros((100, 200), bool)
    mask[top:bottom, left:right] = True
    return mask


RIGHT, WRONG, EDGE, UNKNOWN = (
    block(10, 10, 60, 60),
    block(10, 100, 30, 120),
    block(60, 10, 61, 60),
    block(70, 0, 99, 90),
)


@dataclass
class Model:
    """Takes WRONG, EDGE and UNKNOWN for a coat, too; a negative click takes the left quarter of WRONG."""

    schema = LIP
    asked: list[Prompts]

    def open(self, image: NDArray[np.uint8], key: str) -> Model:
        return self

    def predict(self, prompts: Prompts) -> Prediction:
        self.asked.append(prompts)
        nobody: Any = None
        (label,) = prompts.wanted or ()
        mask = RIGHT | WRONG | EDGE | UNKNOWN
        if not all(click.is_positive for click in prompts.clicks):
            mask = mask & ~block(10, 100, 30, 105) & ~block(10, 10, 15, 60)
        return Prediction({label: mask}, {label: 1.0}, nobody, nobody)


class Data(list[Sample]):
    def __init__(self, names: tuple[str, ...]) -> None:
        labels = np.zeros((100, 200), np.uint8)
        labels[RIGHT] = 1
        labels[UNKNOWN] = IGNORE
        super().__init__([Sample("one", np.zeros((100, 200, 3), np.uint8), labels)])
        self.schema = Schema("own", "Own", tuple(Part(name, "#000000") for name in names))


@pytest.mark.parametrize(("name", "own_labels", "parts"), [("coat", False, ("coat",)), ("watch", True, ())])
def test_a_click_in_the_middle_of_each_wrong_piece(name: str, own_labels: bool, parts: tuple[str, ...]) -> None:
    model: Any = Model([])
    data: Any = Data(("background", name))
    (found,) = measure(model, data, own_labels=own_labels, quiet=True)
    assert (found.label, found.pixels, found.gone, found.lost) == (name, 400, 0.25, 0.1)
    positive, negative = model.asked[-1].clicks
    assert (positive.is_positive, negative.is_positive) == (True, False)
    assert WRONG[negative.pixel(100, 200)]
    assert model.asked[-1].labels == {name: parts}
    assert measure(model, data, own_labels=not own_labels, quiet=True) == []
    assert summary([found])["gone_median"] == 0.25
