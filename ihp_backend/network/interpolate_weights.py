"""Weights between those of two networks (Wortsman et al., CVPR 2022)."""

from __future__ import annotations

from typing import Any

import torch

from ihp_backend.network.parser import HumanParser


def interpolate_weights(old: HumanParser, new: HumanParser, share: float) -> HumanParser:
    """A network whose weights lie between those of two: ``share`` of the new ones."""
    if share == 1.0:
        return new
    mixed, weights = HumanParser(new.config), new.state_dict()
    values: dict[str, Any] = {
        name: torch.lerp(value, weights[name], share) if value.is_floating_point() else weights[name]
        for name, value in old.state_dict().items()
    }
    mixed.load_state_dict(values)
    return mixed.eval()
