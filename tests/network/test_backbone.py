"""The trunk: the strides of its pyramid, and where image weights go."""

from __future__ import annotations

import torch

from ihp_backend.network.backbone import MobileNetV2


def test_strides_of_the_pyramid() -> None:
    with torch.inference_mode():
        features = MobileNetV2()(torch.zeros(1, 3, 64, 96))
    assert tuple(f.shape[1] for f in features) == MobileNetV2.channels
    assert [(64 // f.shape[2], 96 // f.shape[3]) for f in features] == [(s, s) for s in MobileNetV2.strides]


def test_image_weights_reach_the_trunk() -> None:
    source, target = MobileNetV2(), MobileNetV2(extra_inputs=24)
    target.load_image_weights(source.state_dict())
    assert torch.equal(target.stem.weight[:, :3], source.stem.weight)
    assert 0 < target.stem.weight[:, 3:].abs().mean() < 0.1
    assert torch.equal(target.state_dict()["blocks.3.project.weight"], source.state_dict()["blocks.3.project.weight"])
