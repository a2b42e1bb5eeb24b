"""The simulated annotators of the evaluation."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from drawn import blobs
from hypothesis import given, settings
from hypothesis import strategies as st

from ihp_backend.parts import IGNORE, LIP
from ihp_backend.simulation.annotator import USERS, SimulatedAnnotator, User


def test_the_centre_user_clicks_the_centre_of_each_part() -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[5:14, 5:14] = 13
    labels[18:29, 20:31] = 9
    clicks = SimulatedAnnotator(labels, LIP).first_clicks()
    assert [(c.part, c.x, c.y) for c in clicks] == [("pants", 25.5, 23.5), ("face", 9.5, 9.5)]


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(USERS))
def test_corrections_name_the_true_class_of_an_error(seed: int, user: User) -> None:
    labels = blobs(seed)
    annotator = SimulatedAnnotator(labels, LIP, user=user, seed=seed)
    earlier = annotator.first_clicks()
    predicted = np.zeros_like(labels)
    for _ in range(6):
        click = annotator.next_click(predicted)
        if click is None:
            break
        row, column = click.pixel(*labels.shape)
        assert click.part == LIP.names[labels[row, column]]
        assert predicted[row, column] != labels[row, column]
        for other in earlier:
            assert np.hypot(click.x - other.x, click.y - other.y) > 4.9  # discs of 5 pixels are left out
        earlier.append(click)


def test_the_sloppy_user_is_sloppy_and_repeatable() -> None:
    labels = np.zeros((80, 80), np.uint8)
    cv2.circle(labels, (40, 40), 30, 6, thickness=-1)

    def places(seed: int) -> tuple[float, float]:
        (click,) = SimulatedAnnotator(labels, LIP, user="sloppy", seed=seed).first_clicks()
        return click.x, click.y

    assert places(1) == places(1)
    found = {places(seed) for seed in range(20)}
    assert len(found) > 10
    for x, y in found:
        assert np.hypot(x - 40.5, y - 40.5) < 16.5


def test_the_human_user_clicks_in_proportion_to_the_distance_to_the_outside() -> None:
    labels = np.zeros((41, 123), np.uint8)
    labels[:, 1:-1] = 6  # away from its ends the distance grows evenly from 1 at both edges to 21 in the middle

    def row(seed: int) -> int:
        (click,) = SimulatedAnnotator(labels, LIP, user="human", seed=seed).first_clicks()
        return click.pixel(*labels.shape)[0]

    rows = np.array([row(seed) for seed in range(600)])
    from_edge = np.minimum(rows, 40 - rows)
    # Of a triangle, the middle half of the height holds three quarters; of a uniform user, one half.
    assert 0.68 < np.mean(from_edge >= 10) < 0.84
    assert np.mean(from_edge < 3) > 0.005  # near the edge, too, where the sloppy user never is
    assert row(7) == row(7)


def test_a_perfect_parse_needs_no_click() -> None:
    labels = blobs(5)
    assert SimulatedAnnotator(labels, LIP).next_click(np.where(labels == IGNORE, 0, labels)) is None


@pytest.mark.parametrize("user", USERS)
def test_ignored_pixels_are_never_clicked(user: User) -> None:
    labels = np.full((20, 20), IGNORE, np.uint8)
    annotator = SimulatedAnnotator(labels, LIP, user=user)
    assert annotator.classes == []
    assert annotator.first_clicks() == []
    assert annotator.next_click(np.zeros_like(labels)) is None
