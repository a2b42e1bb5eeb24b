"""What every network keeps to, whatever its backbone and components: sizes, gradients, weights on disk, export."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.weights import load_parser, save_parser

SMALL = ParserConfig(width=32, area=64 * 64)
BARE = replace(SMALL, early_fusion=False, late_fusion=False, previous=False, prototypes=False)
NETWORKS = {
    "late fusion": SMALL,
    "late fusion without prototypes": replace(SMALL, prototypes=False),
    "late fusion without previous mask": replace(SMALL, previous=False),
    "early fusion": replace(BARE, early_fusion=True),
    "early fusion with prototypes and previous mask": replace(BARE, early_fusion=True, prototypes=True, previous=True),
    "early and late fusion": replace(SMALL, early_fusion=True),
    "one map for all clicks": replace(SMALL, semantic=False),
    "no open-class channels": replace(SMALL, open_channels=0),
    "early fusion, timm": replace(BARE, early_fusion=True, backbone="mobilenetv3_small_050"),
    "late fusion, timm": replace(SMALL, backbone="mobilenetv3_small_050"),
}
needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
every_network = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_timm) if "timm" in name else name for name in NETWORKS]
)


@cache
def network(name: str) -> HumanParser:
    torch.manual_seed(0)
    return HumanParser(NETWORKS[name]).eval()


def inputs(config: ParserConfig, height: int = 48, width: int = 80, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """A photo of noise on which every channel has a click, and a previous mask."""
    source = torch.Generator().manual_seed(1)
    image = torch.rand(batch, 3, height, width, generator=source) * 2 - 1
    maps = torch.zeros(batch, config.channels, height, width)
    for channel in range(config.channels):
        row, column = (7 * channel + 3) % height, (11 * channel + 5) % width
        maps[:, channel, row : row + 4, column : column + 4] = 1
    prev_mask = torch.rand(batch, config.channels, height // 2, width // 2, generator=source)
    return image, maps, prev_mask


@every_network
@pytest.mark.parametrize(("height", "width"), [(48, 80), (16, 112), (16, 16)])
def test_logits_have_half_the_size_and_the_embedding_a_fourth(name: str, height: int, width: int) -> None:
    parser = network(name)
    with torch.inference_mode():
        output = parser(*inputs(parser.config, height, width, batch=2))
    assert output.logits.shape == (2, parser.config.channels, height // 2, width // 2)
    assert output.embedding.shape == (2, 32, height // 4, width // 4)
    assert output.logits.dtype == output.embedding.dtype == torch.float32
    assert output.logits.isfinite().all()
    assert output.embedding.isfinite().all()


@every_network
def test_clicks_and_the_previous_mask_reach_the_logits(name: str) -> None:
    parser = network(name)
    image, maps, prev_mask = inputs(parser.config)
    moved, other = maps.roll((8, 8), (2, 3)), prev_mask.flip(3)
    with torch.inference_mode():
        logits = parser(image, maps, prev_mask).logits
        assert not torch.equal(parser(image.flip(3), maps, prev_mask).logits, logits)
        assert not torch.equal(parser(image, moved, prev_mask).logits, logits)
        assert torch.equal(parser(image, maps, other).logits, logits) is not parser.config.previous


@every_network
def test_features_know_the_clicks_with_early_fusion_only(name: str) -> None:
    parser = network(name)
    image, maps, _ = inputs(parser.config)
    with torch.inference_mode():
        with_clicks, without = parser.encode(image, maps), parser.encode(image, torch.zeros_like(maps))
    same = all(torch.equal(a, b) for a, b in zip(with_clicks, without, strict=True))
    assert same is not parser.config.early_fusion


@every_network
def test_every_weight_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    parser = HumanParser(NETWORKS[name]).train()
    output = parser(*inputs(parser.config, batch=2))
    (output.logits.square().mean() + output.embedding.square().mean()).backward()
    for weight, value in parser.named_parameters():
        assert value.grad is not None, weight
        assert value.grad.isfinite().all(), weight
        # Where only the previous mask enters the decoder, the weights that its clicks would meet see zeros.
        is_blind = weight == "decoder.clicks.maps.weight" and not parser.config.late_fusion
        assert bool(value.grad.any()) is not is_blind, weight


@every_network
def test_saved_and_loaded_it_says_the_same(name: str, tmp_path: Path) -> None:
    parser = network(name)
    save_parser(parser, tmp_path, {"version": "w-1"})
    again, info = load_parser(tmp_path)
    assert again.config == parser.config
    assert info["version"] == "w-1"
    with torch.inference_mode():
        expected, found = (p(*inputs(parser.config)) for p in (parser, again))
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.embedding, expected.embedding)


@every_network
def test_exported_it_says_the_same(name: str) -> None:
    """As a graph without Python, which other runtimes take."""
    parser = network(name)
    exported = torch.export.export(parser, inputs(parser.config)).module()
    image, maps, prev_mask = inputs(parser.config)
    for clicks in (maps, torch.zeros_like(maps)):
        with torch.inference_mode():
            expected, found = parser(image, clicks, prev_mask), exported(image, clicks, prev_mask)
        assert torch.allclose(found.logits, expected.logits, atol=1e-4)
        assert torch.allclose(found.embedding, expected.embedding, atol=1e-4)
