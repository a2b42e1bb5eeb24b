"""Folded batch norms change no answer."""

from __future__ import annotations

import torch
from untrained import inputs

from ihp_backend.network.folding import folded
from ihp_backend.network.parser import HumanParser


def test_folding_batch_norms_changes_nothing(parser: HumanParser) -> None:
    for module in parser.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    image, maps, prev_mask = inputs()
    maps[0, 3, 5:9, 5:9] = 1
    fold = folded(parser)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fold.modules())
    with torch.inference_mode():
        assert torch.allclose(parser(image, maps, prev_mask).logits, fold(image, maps, prev_mask).logits, atol=1e-3)
