"""What the network reads: the same in training and in serving."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from drawn import PARSER, Drawn

from ihp_backend.data.augment import ViewConfig
from ihp_backend.geometry import Box, View
from ihp_backend.inference.engine import Engine
from ihp_backend.network.parser import HumanParser
from ihp_backend.network.preprocessing import to_input
from ihp_backend.simulation.sampling import SamplingConfig
from ihp_backend.training.batches import Batches


def test_black_is_minus_one_and_white_is_one() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[1, 2] = (255, 51, 204)
    seen = to_input(image)
    assert seen.shape == (3, 2, 3)
    assert seen.dtype == np.float32
    assert np.allclose(seen[:, 1, 2], (1.0, -0.6, 0.6))
    assert (seen[:, 0] == -1).all()


@contextmanager
def inputs_of(engine: Engine) -> Iterator[list[torch.Tensor]]:
    found: list[torch.Tensor] = []
    hook = engine.parser.backbone.register_forward_pre_hook(lambda _, arguments: found.append(arguments[0]))
    yield found
    hook.remove()


def test_training_and_serving_give_the_network_the_same() -> None:
    batch = Batches(
        Drawn(), PARSER, SamplingConfig(), size=1, seed=1, area=lambda step: 48 * 32, views=ViewConfig(detail=0)
    ).make(0)
    pixels = ((batch.images[0].permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)
    height, width = pixels.shape[:2]
    engine = Engine(HumanParser(PARSER))
    with inputs_of(engine) as seen:
        engine.encode(pixels, View(Box(0, 0, width, height), height, width), None)
    assert torch.equal(seen[0].float(), batch.images.to(engine.dtype).float())
