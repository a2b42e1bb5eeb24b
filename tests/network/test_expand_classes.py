"""Channels for custom classes: nothing else changes, and the new ones work as an open-class channel did."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ihp_backend.network.expand_classes import expand_classes
from ihp_backend.network.parser import HumanParser, ParserConfig

SMALL = ParserConfig(width=32, area=64 * 64, open_channels=2)


@pytest.mark.parametrize("early_fusion", [True, False])
def test_growth_changes_nothing_else(early_fusion: bool) -> None:
    torch.manual_seed(0)
    parser = HumanParser(replace(SMALL, early_fusion=early_fusion)).eval()
    larger = expand_classes(parser, ["Backpack", "Tattoo", "Left-hand"])
    assert larger.config.parts.names[20:] == ("Backpack", "Tattoo", "Left-hand")
    assert larger.config.channels == 25
    assert not larger.training
    image = torch.rand(1, 3, 64, 48)
    maps, prev_mask = torch.zeros(1, 22, 64, 48), torch.rand(1, 22, 32, 24)
    maps[0, 13, 20:24, 10:14] = maps[0, 21, 40:44, 10:14] = 1
    places = [*range(20), 23, 24]  # parts, then the open-class channels behind the three new channels
    wide, seen = torch.zeros(1, 25, 64, 48), torch.zeros(1, 25, 32, 24)
    wide[:, places], seen[:, places] = maps, prev_mask
    with torch.inference_mode():
        before, after = parser(image, maps, prev_mask).logits, larger(image, wide, seen).logits
    assert torch.allclose(after[:, places], before, atol=1e-5)


def test_a_new_channel_speaks_as_its_open_class_channel_did() -> None:
    torch.manual_seed(0)
    parser = HumanParser(SMALL).eval()
    larger = expand_classes(parser, ["Backpack"])
    image = torch.rand(1, 3, 64, 48)
    shared, own = torch.zeros(1, 22, 64, 48), torch.zeros(1, 23, 64, 48)
    shared[0, 20, 20:24, 10:14] = own[0, 20, 20:24, 10:14] = 1
    with torch.inference_mode():
        before = parser(image, shared, torch.zeros(1, 22, 32, 24)).logits[:, 20]
        after = larger(image, own, torch.zeros(1, 23, 32, 24)).logits[:, 20]
    assert torch.allclose(after, before, atol=1e-5)


def test_what_has_a_channel_keeps_it() -> None:
    torch.manual_seed(0)
    parser = expand_classes(HumanParser(SMALL), ["Backpack", "Tattoo"])
    with torch.no_grad():
        parser.decoder.fine.weight[21] = 7
    again = expand_classes(parser, ["Tattoo", "Umbrella"])
    assert again.config.custom_classes == ("Backpack", "Tattoo", "Umbrella")
    assert (again.decoder.fine.weight[21] == 7).all()
    assert expand_classes(again, []).config == again.config


def test_a_label_of_the_schema_is_not_grown() -> None:
    with pytest.raises(ValueError, match="knows Trousers"):
        expand_classes(HumanParser(SMALL), ["Trousers"])


def test_a_label_that_is_written_differently_keeps_its_channel() -> None:
    parser = expand_classes(HumanParser(SMALL), ["Left-hand", "Tattoo"])
    assert expand_classes(parser, ["Left hand", "tattoo", "Scar", "SCAR"]).config.custom_classes == (
        "Left-hand",
        "Tattoo",
        "Scar",
    )
