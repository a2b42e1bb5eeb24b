"""An untrained network: small, and the same in every test."""

from __future__ import annotations

import numpy as np
import torch

from ihp_backend.data.synthetic import draw_person
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.parser import HumanParser, ParserConfig

SMALL = ParserConfig(width=32, area=64 * 64)

PHOTO = draw_person(np.random.default_rng(1), 120, 80)[0]


def predictor_of(*, early_fusion: bool = False, cache_mb: int = 16) -> Predictor:
    torch.manual_seed(3)
    parser = HumanParser(ParserConfig(width=32, area=64 * 64, early_fusion=early_fusion))
    return Predictor(parser, version="untrained", cache_mb=cache_mb)


def inputs(height: int = 64, width: int = 48, n: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Photos, and empty maps and masks, as a network of ``SMALL`` takes them."""
    torch.manual_seed(1)
    channels = SMALL.channels
    image = torch.rand(n, 3, height, width) * 2 - 1
    return image, torch.zeros(n, channels, height, width), torch.zeros(n, channels, height // 2, width // 2)
