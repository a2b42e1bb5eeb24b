"""Drawn labels, a data set of drawn people, and a training run short enough for a test."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.data.sample import Sample
from ihp_backend.data.synthetic import draw_person
from ihp_backend.network.parser import ParserConfig
from ihp_backend.parts import IGNORE, LIP
from ihp_backend.training.config import TrainConfig

PARSER = ParserConfig(width=32, area=48 * 32)


CONFIG = TrainConfig(steps=6, batch=2, warmup=2, validate_every=3, parser=PARSER, small_share=0.5)


def blobs(seed: int, height: int = 60, width: int = 50, count: int = 6) -> NDArray[np.uint8]:
    """Labels (height, width): discs of parts, some of them ignored."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.uint8)
    for _ in range(count):
        place = int(rng.integers(width)), int(rng.integers(height))
        colour = int(rng.choice([*range(1, 20), IGNORE]))
        cv2.circle(labels, place, int(rng.integers(1, 14)), colour, thickness=-1)
    return labels


class Drawn:
    """Drawn people, as a data set."""

    schema = LIP
    names: Sequence[str] = ("a", "b", "c")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.names[index], *draw_person(np.random.default_rng(index), 96, 64))
