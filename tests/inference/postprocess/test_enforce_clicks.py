"""Where the network contradicts a click, it is corrected there, and as far as the image looks alike."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ihp_backend.inference.postprocess.enforce_clicks import EnforceClicksOptions, enforce_clicks
from ihp_backend.network.click_maps import Point

OPTIONS = EnforceClicksOptions(reach=4.0, margin=0.5)


def logits_of(*leads: float, height: int = 60, width: int = 80) -> NDArray[np.float32]:
    return np.repeat(np.array(leads, np.float32), height * width).reshape(len(leads), height, width)


def margin(logits: NDArray[np.float32], channel: int) -> NDArray[np.float32]:
    found: NDArray[np.float32] = logits[channel] - np.delete(logits, channel, axis=0).max(0)
    return found


@pytest.mark.parametrize("is_positive", [True, False])
def test_at_the_click_its_part_leads_or_trails_by_the_margin(is_positive: bool) -> None:
    before = logits_of(1.0, 0.0, 0.3) if is_positive else logits_of(0.0, 2.0, 0.3)
    point = Point(41.0, 31.0, 1, is_positive)
    after = enforce_clicks(before.copy(), None, [point], OPTIONS)
    lead = margin(after, 1)
    assert lead[15, 20] == pytest.approx(0.5 if is_positive else -0.5, abs=1e-5)
    assert np.array_equal(after[[0, 2]], before[[0, 2]]), "the other channels stay"
    change = np.abs(after[1] - before[1])
    assert change.argmax() == np.ravel_multi_index((15, 20), (60, 80))
    deficit = change[15, 20]
    for rows, columns in ((0, 4), (4, 0), (0, -4), (-4, 0)):  # one standard deviation away
        assert change[15 + rows, 20 + columns] == pytest.approx(deficit * np.exp(-0.5), rel=1e-4)
    assert change[15, 20 + 12] > 0
    assert not change[15, 20 + 13 :].any()
    assert not change[: 15 - 12].any()
    assert not change[15 + 13 :].any()
    assert not change[:, : 20 - 12].any()


@pytest.mark.parametrize(("lead", "is_positive"), [(0.5, True), (3.0, True), (-0.5, False), (-3.0, False)])
def test_a_click_that_the_network_agrees_with_changes_nothing(lead: float, is_positive: bool) -> None:
    before = logits_of(0.0, lead, -1.0)
    after = enforce_clicks(before.copy(), None, [Point(41.0, 31.0, 1, is_positive)], OPTIONS)
    assert np.array_equal(after, before)


@pytest.mark.parametrize(("x", "y"), [(-0.5, 30.0), (160.0, 30.0), (40.0, -0.5), (40.0, 120.0)])
def test_a_click_outside_of_the_view_is_passed_over(x: float, y: float) -> None:
    before = logits_of(1.0, 0.0)
    assert np.array_equal(enforce_clicks(before.copy(), None, [Point(x, y, 1)], OPTIONS), before)


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (159.9, 119.9)])
def test_a_click_in_a_corner_is_enforced(x: float, y: float) -> None:
    after = enforce_clicks(logits_of(1.0, 0.0), None, [Point(x, y, 1)], OPTIONS)
    assert margin(after, 1)[Point(x, y, 1).cell] == pytest.approx(0.5, abs=1e-5)


def test_what_looks_otherwise_is_not_taken_along() -> None:
    embedding = np.zeros((2, 30, 40), np.float32)
    embedding[0, :, :11] = embedding[1, :, 11:] = 3.0
    before = logits_of(1.0, 0.0)
    after = enforce_clicks(before.copy(), embedding, [Point(41.0, 31.0, 1)], OPTIONS)
    plain = enforce_clicks(before.copy(), None, [Point(41.0, 31.0, 1)], OPTIONS)
    assert np.allclose(after[1, :, :20], plain[1, :, :20], atol=1e-5)
    assert np.array_equal(after[:, :, 23:], before[:, :, 23:])
    assert margin(after, 1)[15, 20] == pytest.approx(0.5, abs=1e-5)


def test_features_that_are_half_alike_take_a_part() -> None:
    embedding = np.ones((2, 30, 40), np.float32)
    embedding[1, :, 11:] = 0  # a cosine of 0.71, whose square counts
    before = logits_of(1.0, 0.0)
    after = enforce_clicks(before.copy(), embedding, [Point(41.0, 31.0, 1)], OPTIONS)
    plain = enforce_clicks(before.copy(), None, [Point(41.0, 31.0, 1)], OPTIONS)
    assert after[1, 15, 25] == pytest.approx(plain[1, 15, 25] / 2, rel=1e-3)


def test_a_click_on_a_pixel_unlike_its_surroundings_leads_all_the_same() -> None:
    embedding = np.zeros((2, 30, 40), np.float32)
    embedding[0] = 1.0
    embedding[:, 7, 10] = (0.0, 1.0)
    after = enforce_clicks(logits_of(1.0, 0.0), embedding, [Point(41.0, 31.0, 1)], OPTIONS)
    assert margin(after, 1)[15, 20] == pytest.approx(0.5, abs=1e-5)
