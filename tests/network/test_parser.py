"""The network: shapes, masked open-class channels, what reaches it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from untrained import SMALL, inputs

from ihp_backend.network.parser import MASKED_LOGIT, HumanParser


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8))
def test_any_multiple_of_16_will_do(parser: HumanParser, rows: int, columns: int) -> None:
    with torch.inference_mode():
        output = parser(*inputs(16 * rows, 16 * columns))
    assert output.logits.shape == (1, 24, 8 * rows, 8 * columns)
    assert torch.isfinite(output.logits).all()


def test_open_class_channels_are_masked_until_they_are_used(parser: HumanParser) -> None:
    image, maps, prev_mask = inputs()
    with torch.inference_mode():
        assert (parser(image, maps, prev_mask).logits[:, 20:] == MASKED_LOGIT).all()
        maps[0, 21, 30, 20] = 1
        logits = parser(image, maps, prev_mask).logits
        assert (logits[:, 21] > MASKED_LOGIT).any()
        assert (logits[:, [20, 22, 23]] == MASKED_LOGIT).all()
        maps[0, 21] = 0
        prev_mask[0, 23, 3, 3] = 1
        assert (parser(image, maps, prev_mask).logits[:, 23] > MASKED_LOGIT).any()


def test_a_masked_channel_never_wins_however_low_the_others_are(parser: HumanParser) -> None:
    """On photos unlike those of the training, the logits of all parts may be near -40."""
    biases = (parser.decoder.coarse.bias, parser.decoder.fine.bias)
    before = [bias.detach().clone() for bias in biases if bias is not None]
    with torch.inference_mode():
        for bias in biases:
            assert bias is not None
            bias -= 100
        logits = parser(*inputs()).logits
        for bias, old in zip(biases, before, strict=True):
            assert bias is not None
            bias.copy_(old)
    assert logits[:, :20].max() < -100
    assert (logits.argmax(1) < 20).all()


@pytest.mark.parametrize("early", [True, False])
def test_each_fusion_alone_carries_the_clicks(early: bool) -> None:
    config = replace(SMALL, early_fusion=False, late_fusion=False, previous=False, prototypes=False)
    image, maps, prev_mask = inputs()
    clicked = maps.clone()
    clicked[0, 13, 28:34, 18:24] = 1
    torch.manual_seed(0)
    with torch.inference_mode():
        none = HumanParser(config).eval()
        assert torch.equal(none(image, maps, prev_mask).logits, none(image, clicked, prev_mask).logits)
        one = HumanParser(replace(config, early_fusion=early, late_fusion=not early)).eval()
        assert not torch.equal(one(image, maps, prev_mask).logits, one(image, clicked, prev_mask).logits)


def test_the_previous_mask_is_seen_only_where_it_is_switched_on() -> None:
    image, maps, prev_mask = inputs()
    shown = prev_mask.clone()
    shown[0, 5] = 1
    with torch.inference_mode():
        for used in (True, False):
            parser = HumanParser(replace(SMALL, previous=used)).eval()
            same = torch.equal(parser(image, maps, prev_mask).logits, parser(image, maps, shown).logits)
            assert same is not used


def test_photos_of_a_batch_do_not_mix(parser: HumanParser) -> None:
    image, maps, prev_mask = inputs(n=3)
    maps[1, 4, 10:20, 10:20] = 1
    with torch.inference_mode():
        together = parser(image, maps, prev_mask).logits
        alone = parser(image[1:2], maps[1:2], prev_mask[1:2]).logits
    assert torch.allclose(together[1:2], alone, atol=1e-4)
