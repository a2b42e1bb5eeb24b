"""Weights between those of two networks."""

from __future__ import annotations

import torch

from ihp_backend.network.interpolate_weights import interpolate_weights
from ihp_backend.network.parser import HumanParser, ParserConfig


def test_weights_between_two() -> None:
    config = ParserConfig(width=32, area=48 * 32)
    old, new = HumanParser(config), HumanParser(config)
    half = interpolate_weights(old, new, 0.5)
    name = "decoder.fine.weight"
    expected = (old.state_dict()[name] + new.state_dict()[name]) / 2
    assert torch.allclose(half.state_dict()[name], expected)
    assert interpolate_weights(old, new, 1.0) is new
