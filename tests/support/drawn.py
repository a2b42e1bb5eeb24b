"""A data set of drawn people, and a training run short enough for a test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ihp_backend.data.sample import Sample
from ihp_backend.data.synthetic import draw_person
from ihp_backend.network.parser import ParserConfig
from ihp_backend.parts import LIP
from ihp_backend.training.config import TrainConfig

PARSER = ParserConfig(width=32, area=48 * 32)


CONFIG = TrainConfig(steps=6, batch=2, warmup=2, validate_every=3, parser=PARSER, small_share=0.5)


class Drawn:
    """Drawn people, as a data set."""

    schema = LIP
    names: Sequence[str] = ("a", "b", "c")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.names[index], *draw_person(np.random.default_rng(index), 96, 64))
