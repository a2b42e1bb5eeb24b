"""What the simulated annotator does with a training batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ihp_backend.network.click_maps import Point
from ihp_backend.network.parser import ParserConfig
from ihp_backend.simulation.sampling import SamplingConfig
from ihp_backend.training.batch import Batch

PARSER = ParserConfig(width=32, area=64 * 64)


def batch_of(labels: torch.Tensor, *points: list[Point], no_clicks_allowed: bool = False) -> Batch:
    n, height, width = labels.shape
    return Batch(
        [str(i) for i in range(n)],
        torch.zeros(n, 3, height, width),
        labels,
        [list(p) for p in points],
        torch.zeros(n, PARSER.channels, height // 2, width // 2),
        [no_clicks_allowed] * n,
        [False] * n,
        torch.zeros(n, PARSER.channels, dtype=torch.bool),
        0,
        np.random.default_rng(0),
    )


def square() -> torch.Tensor:
    labels = torch.zeros(1, 64, 48, dtype=torch.int64)
    labels[:, 16:48, 8:40] = 5
    return labels


def test_clicks_are_drawn_in_the_map_of_their_photo_and_part() -> None:
    labels = square().repeat(2, 1, 1)
    maps = batch_of(labels, [Point(24.0, 32.0, 5)], []).click_maps(PARSER)
    assert maps.shape == (2, PARSER.channels, 64, 48)
    assert maps[0, 5].max() == maps[0, 5, 32, 24] > 0
    assert not maps[0, :5].any()
    assert not maps[1].any()


def test_clicks_come_where_the_network_is_wrong_in_pixels_of_the_photo() -> None:
    labels = square()
    batch = batch_of(labels, [Point(20.0, 20.0, 5)])
    logits = torch.zeros(1, PARSER.channels, 32, 24)
    logits[:, 0] = 1
    batch.click_errors(logits, SamplingConfig())
    first, *new = batch.points[0]
    assert first == Point(20.0, 20.0, 5)
    assert new
    for point in new:
        assert labels[0, int(point.y), int(point.x)] == point.channel == 5


def test_no_click_comes_where_none_may_or_nothing_is_wrong() -> None:
    logits = torch.zeros(1, PARSER.channels, 32, 24)
    logits[:, 0] = 1
    forbidden = batch_of(square(), [Point(20.0, 20.0, 5)], no_clicks_allowed=True)
    forbidden.click_errors(logits, SamplingConfig())
    assert len(forbidden.points[0]) == 1
    right = batch_of(square(), [Point(20.0, 20.0, 5)])
    right.click_errors(
        torch.nn.functional.one_hot(square()[:, ::2, ::2], PARSER.channels).movedim(-1, 1), SamplingConfig()
    )
    assert len(right.points[0]) == 1


def test_most_photos_without_clicks_stay_so() -> None:
    logits = torch.zeros(1, PARSER.channels, 32, 24)
    logits[:, 0] = 1
    clicked = 0
    for seed in range(100):
        batch = batch_of(square(), [])
        batch.rng = np.random.default_rng(seed)
        batch.click_errors(logits, SamplingConfig())
        clicked += bool(batch.points[0])
    assert 15 <= clicked <= 45


@pytest.mark.parametrize("seed", range(4))
def test_labels_at_half_size_are_one_of_each_four(seed: int) -> None:
    labels = torch.arange(64 * 48).reshape(1, 64, 48)
    batch = batch_of(labels, [])
    batch.rng = np.random.default_rng(seed)
    half = batch.labels_at_half_size()
    assert half.shape == (1, 32, 24)
    first = int(half[0, 0, 0])
    assert first in (0, 1, 48, 49)
    assert torch.equal(half, labels[:, first // 48 :: 2, first % 48 :: 2])


def test_over_many_batches_labels_at_half_size_do_not_shift() -> None:
    labels = torch.arange(64 * 48).reshape(1, 64, 48)
    batch = batch_of(labels, [])
    assert {int(batch.labels_at_half_size()[0, 0, 0]) for _ in range(40)} == {0, 1, 48, 49}
