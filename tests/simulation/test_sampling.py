"""Simulated clicks: where they may fall, by hand and by property."""

from __future__ import annotations

import cv2
import numpy as np
from drawn import blobs
from hypothesis import given, settings
from hypothesis import strategies as st

from ihp_backend.parts import IGNORE
from ihp_backend.simulation.sampling import (
    SamplingConfig,
    distance_inside,
    error_clicks,
    first_clicks,
    sample_open_classes,
)


def test_distance_counts_the_edge_as_outside() -> None:
    mask = np.ones((5, 7), bool)
    assert distance_inside(mask).max() == 3
    assert distance_inside(mask)[0, 3] == 1


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_first_clicks_lie_in_their_part(seed: int) -> None:
    labels = blobs(seed)
    points = first_clicks(labels, np.random.default_rng(seed), SamplingConfig(drop_all=0))
    for point in points:
        assert labels[int(point.y), int(point.x)] == point.channel
        assert point.is_positive


def test_the_first_click_of_a_part_is_in_its_middle() -> None:
    labels = np.zeros((41, 41), np.uint8)
    cv2.circle(labels, (20, 20), 15, 5, thickness=-1)
    config = SamplingConfig(drop_all=0, some_parts=0, random_sampling=False)
    for seed in range(50):
        (point,) = [p for p in first_clicks(labels, np.random.default_rng(seed), config) if p.channel == 5]
        assert np.hypot(point.x - 20.5, point.y - 20.5) < 15 * (1 - 1 / 1.7) + 1


def test_dropping_and_sampling_can_be_switched() -> None:
    labels = blobs(3)
    seeds = range(40)
    assert not any(first_clicks(labels, np.random.default_rng(s), SamplingConfig(drop_all=1)) for s in seeds)
    plain = SamplingConfig(drop_all=0, some_parts=0, random_sampling=False)
    for seed in seeds:
        channels = [p.channel for p in first_clicks(labels, np.random.default_rng(seed), plain)]
        assert len(channels) == len(set(channels))
    many = SamplingConfig(drop_all=0, some_parts=0, more_clicks=1.0)
    points = first_clicks(labels, np.random.default_rng(0), many)
    assert max(sum(p.channel == c for p in points) for c in {p.channel for p in points}) == 6


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_error_clicks_fall_into_errors_and_tell_the_truth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predicted = blobs(seed), blobs(seed + 1)
    predicted[predicted == IGNORE] = 0
    points = error_clicks(predicted, labels, 6, rng, SamplingConfig(negative=0.5), scale=2.0)
    for point in points:
        row, column = int(point.y / 2), int(point.x / 2)
        assert predicted[row, column] != labels[row, column] != IGNORE
        if point.is_positive:
            assert point.channel == labels[row, column]
        else:
            assert point.channel == predicted[row, column] != 0


def test_no_error_no_click() -> None:
    labels = blobs(1)
    assert error_clicks(labels, labels, 5, np.random.default_rng(0), SamplingConfig()) == []


@given(st.integers(0, 10_000))
def test_open_class_channels_take_whole_parts(seed: int) -> None:
    labels = blobs(seed)
    out = sample_open_classes(labels, 20, 4, np.random.default_rng(seed), SamplingConfig(open_classes=1))
    moved = out != labels
    assert set(np.unique(out[moved])) <= {20, 21, 22, 23}
    for part in np.unique(labels[moved]):
        assert part not in (0, IGNORE)
        assert len(np.unique(out[labels == part])) == 1
    assert sample_open_classes(labels, 20, 4, np.random.default_rng(seed), SamplingConfig(open_classes=0)) is labels


def test_objects_that_are_no_class_teach_the_open_class_channels() -> None:
    """A bag before a coat: it comes to an open-class channel, whole, and takes nothing else with it."""
    labels = np.zeros((20, 20), np.uint8)
    labels[:, 10:] = 7
    objects = np.zeros((20, 20), np.uint8)
    objects[5:10, 5:15] = 2
    config, taken = SamplingConfig(open_classes=1, merged=0), set()
    for seed in range(30):
        out = sample_open_classes(labels, 20, 4, np.random.default_rng(seed), config, objects)
        bag, rest = out[5:10, 5:15], np.where(objects > 0, labels, out)
        is_bag = bool((bag >= 20).all())
        assert np.array_equal(rest, labels) or not is_bag
        assert is_bag or np.array_equal(out > 0, labels > 0)
        taken.add(is_bag)
    assert taken == {True, False}, "now and then a part is taken instead"
