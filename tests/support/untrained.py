"""A predictor with an untrained network: small, and the same in every test."""

from __future__ import annotations

import numpy as np
import torch

from ihp_backend.data.synthetic import draw_person
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.parser import HumanParser, ParserConfig

PHOTO = draw_person(np.random.default_rng(1), 120, 80)[0]


def predictor_of(*, early_fusion: bool = False, cache_mb: int = 16) -> Predictor:
    torch.manual_seed(3)
    parser = HumanParser(ParserConfig(width=32, area=64 * 64, early_fusion=early_fusion))
    return Predictor(parser, version="untrained", cache_mb=cache_mb)
