"""The bias of classes without clicks: by hand, and that it touches photos without clicks only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import PARSER, Drawn

from ihp_backend.network.parser import HumanParser
from ihp_backend.training.calibration import best_prior, calibrated


def test_a_rare_class_that_is_second_everywhere_is_said_where_it_is_nearest() -> None:
    """Class 1 is a tenth of the pixels; its logit is one too low, and higher where it really is."""
    labels = np.array([0] * 90 + [1] * 10, np.uint8)
    logits = np.zeros((100, 2), np.float32)
    logits[:, 1] = np.where(labels == 1, -0.6, -1.6)
    prior = best_prior(logits, labels)
    assert ((logits + prior).argmax(1) == labels).all()


def test_right_logits_are_left_alone() -> None:
    labels = np.array([0, 1, 2] * 10, np.uint8)
    assert (best_prior(np.eye(3, dtype=np.float32)[labels] * 5, labels) == 0).all()


@pytest.mark.parametrize("touch", ["nothing", "click", "negative click", "known"])
def test_only_untouched_photos_are_biased(touch: str) -> None:
    torch.manual_seed(0)
    parser = HumanParser(replace(PARSER, open_channels=0)).eval()
    image, maps, prev_mask = torch.rand(1, 3, 48, 32), torch.zeros(1, 20, 48, 32), torch.zeros(1, 20, 24, 16)
    if touch == "known":
        prev_mask[0, 3, 2:5, 2:5] = 1
    elif touch != "nothing":
        maps[0, 3, 10:20, 10:20] = 1 if touch == "click" else -1
    with torch.inference_mode():
        before = parser(image, maps, prev_mask).logits
        parser.prior[5] = 2
        change = parser(image, maps, prev_mask).logits - before
    assert torch.allclose(change[0, 5], torch.full((24, 16), 2.0 if touch == "nothing" else 0.0), atol=1e-5)
    assert not change[0, [i for i in range(20) if i != 5]].any()


def test_calibration_leaves_the_network_alone_but_for_the_prior() -> None:
    torch.manual_seed(0)
    parser = HumanParser(PARSER).eval()
    found = calibrated(parser, Drawn(), quiet=True)
    assert not parser.prior.any()
    assert found.prior.any()
    assert not found.prior[20:].any()
    assert all(torch.equal(v, found.state_dict()[k]) for k, v in parser.state_dict().items() if k != "prior")
