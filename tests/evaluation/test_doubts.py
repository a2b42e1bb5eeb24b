"""Which masks are doubtful, by a parse that is drawn by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ihp_backend.evaluation.doubts import MISSING, doubts
from ihp_backend.geometry import Box, View
from ihp_backend.inference.label_channels import Channels
from ihp_backend.inference.prediction import Parse
from ihp_backend.inference.prompts import Prompts
from ihp_backend.parts import LIP

LABELS: dict[str, tuple[str, ...]] = {"Coat": ("coat",), "Face": ("face",), "Tattoo": (), "Wall": ("background",)}
COAT, FACE, TATTOO, WALL = 1, 2, 3, 4
LEAD = 6.0
SURE = math.exp(LEAD) / (math.exp(LEAD) + len(LIP) - 1)
"""The probability of what leads; each other part has an equal share of the rest."""


def painted(rows: slice, columns: slice, number: int, height: int = 80, width: int = 120) -> NDArray[np.uint8]:
    ids = np.zeros((height, width), np.uint8)
    ids[rows, columns] = number
    return ids


class Session:
    """Sees a coat in the rows 20 to 60 and the columns 40 to 80 of a photo of 120x80, and background elsewhere."""

    def parse(self, prompts: Prompts) -> Parse:
        assert not prompts.clicks
        logits = np.zeros((len(LIP), 40, 60), np.float32)
        coat = np.zeros((40, 60), bool)
        coat[10:30, 20:40] = True
        logits[LIP.names.index("coat"), coat] = LEAD
        logits[0, ~coat] = LEAD
        labels = prompts.parts(LIP)
        return Parse(80, 120, View(Box(0, 0, 120, 80), 80, 120), logits, Channels(LIP, 0, labels), ())


SESSION: Any = Session()


def test_a_mask_that_the_network_sees_too_is_not_doubtful() -> None:
    (doubt,) = doubts(SESSION, painted(slice(20, 60), slice(40, 80), COAT), LABELS)
    free = (80 * 120 - 1600) * (1 - SURE) / (len(LIP) - 1)
    assert doubt.label == "Coat"
    assert doubt.doubt == pytest.approx(1 - SURE * (1600 / (1600 + free)) ** MISSING, rel=1e-3)
    assert doubt.doubt < 0.15


def test_another_parts_label_is_wrong_and_it_is_said_what_is_seen() -> None:
    (doubt,) = doubts(SESSION, painted(slice(20, 60), slice(40, 80), FACE), LABELS)
    assert doubt.doubt == pytest.approx(1 - (1 - SURE) / (len(LIP) - 1), abs=1e-3)
    assert doubt.reason == "looks like Coat"
    (doubt,) = doubts(SESSION, painted(slice(0, 10), slice(0, 30), FACE), LABELS)
    assert (doubt.doubt > 0.99, doubt.reason) == (True, "little of it is seen there")


@pytest.mark.parametrize("left", [0.25, 0.5])
def test_of_a_mask_that_was_cut_short_the_rest_is_missed(left: float) -> None:
    (doubt,) = doubts(SESSION, painted(slice(20, 60), slice(40, 40 + int(40 * left)), COAT), LABELS)
    free = 1600 * (1 - left) * SURE + (80 * 120 - 1600) * (1 - SURE) / (len(LIP) - 1)
    assert doubt.doubt == pytest.approx(1 - SURE * (1600 * left / (1600 * left + free)) ** MISSING, rel=1e-3)
    (kept,) = doubts(SESSION, painted(slice(20, 60), slice(40, 40 + int(40 * left)), COAT), LABELS, missing=0)
    assert kept.doubt == pytest.approx(1 - SURE, rel=1e-2), "what is there is right"
    assert doubt.reason == "more of it is seen beside the mask"


def test_what_another_label_has_taken_is_not_missed_and_the_most_doubtful_comes_first() -> None:
    ids = painted(slice(20, 60), slice(40, 60), COAT) + painted(slice(20, 60), slice(60, 80), FACE)
    face, coat = doubts(SESSION, ids, LABELS)
    assert (face.label, coat.label) == ("Face", "Coat")
    assert face.doubt > 0.99
    assert coat.doubt < 0.3
    unknown = painted(slice(20, 60), slice(40, 60), COAT) + painted(slice(20, 60), slice(60, 80), 255)
    (alone,) = doubts(SESSION, unknown, LABELS)
    assert alone.doubt == pytest.approx(coat.doubt)


def test_labels_without_a_part_and_the_background_are_not_judged() -> None:
    ids = painted(slice(0, 9), slice(0, 9), TATTOO) + painted(slice(20, 60), slice(40, 80), WALL)
    assert doubts(SESSION, ids, LABELS) == []
    assert doubts(SESSION, np.zeros((80, 120), np.uint8), LABELS) == []
