"""Backbones of timm, where it is installed; and what is said where it is not."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.timm_backbone import TimmBackbone

CONFIG = ParserConfig(width=32, area=64 * 64, backbone="mobilenetv3_small_050")


def test_without_timm_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="pip install timm"):
        HumanParser(CONFIG)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto"])
def test_a_parser_on_a_backbone_of_timm(name: str) -> None:
    pytest.importorskip("timm")
    torch.manual_seed(0)
    parser = HumanParser(replace(CONFIG, backbone=name)).eval()
    image, maps, prev_mask = torch.rand(1, 3, 64, 96), torch.zeros(1, 24, 64, 96), torch.zeros(1, 24, 32, 48)
    clicked = maps.clone()
    clicked[0, 5, 20:30, 20:30] = 1
    with torch.inference_mode():
        before, after = parser(image, maps, prev_mask).logits, parser(image, clicked, prev_mask).logits
    assert before.shape == (1, 24, 32, 48)
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto"])
def test_the_widened_convolution_sees_rgb_as_before(name: str) -> None:
    pytest.importorskip("timm")
    torch.manual_seed(0)
    plain = TimmBackbone(name).eval()
    torch.manual_seed(0)
    wide = TimmBackbone(name, extra_inputs=24).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = plain(image)[1:]
        got = wide(torch.cat((image, torch.zeros(1, 24, 64, 64)), 1))[1:]
    for a, b in zip(expected, got, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_networks_that_do_not_fit_are_named() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="no-such-net"):
        TimmBackbone("no-such-net")
