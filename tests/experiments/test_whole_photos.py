"""What a photo costs, on an interface whose every answer is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.data.sample import Sample
from ihp_backend.experiments.simulated_interface import SessionConfig
from ihp_backend.experiments.whole_photos import BROWSER_S, PhotoCost, Start, summary, whole_photos
from ihp_backend.parts import LIP
from ihp_backend.simulation.annotator import SimulatedAnnotator


def with_rows(*rows: int) -> NDArray[np.uint8]:
    return np.repeat(np.array([[row] * 100 for row in rows], np.uint8), 20, axis=0)


LABELS = with_rows(13, 13, 9, 9, 0)  # face above, pants below, then the background


@dataclass
class Page:
    """Each click makes its part right; a negative one takes the mask away that it is in."""

    predicted: NDArray[np.uint8]
    sample: Sample = field(default_factory=lambda: Sample("one", np.zeros((100, 100, 3), np.uint8), LABELS))
    click_seconds: list[float] = field(default_factory=list)
    shown: NDArray[np.uint8] = field(default_factory=lambda: np.zeros_like(LABELS))

    def open(self) -> None:
        self.shown = np.zeros_like(LABELS)

    def open_with_predictions(self) -> None:
        self.shown = self.predicted.copy()

    def label_map(self) -> NDArray[np.uint8]:
        return self.shown.copy()

    def click(self, click: Click) -> None:
        self.click_seconds.append(0.1)
        part = LIP.names.index(click.part)
        there = self.shown[click.pixel(100, 100)]
        self.shown[(self.shown == there) if part == 0 else (part == LABELS)] = part


def costs(
    monkeypatch: pytest.MonkeyPatch, predicted: NDArray[np.uint8], start: Start, enough: float = 0.99
) -> list[PhotoCost]:
    page, annotator = Page(predicted), SimulatedAnnotator(LABELS, LIP)
    monkeypatch.setattr("ihp_backend.experiments.whole_photos.tasks", lambda *args: [(page, annotator)])
    nobody: Any = None
    return whole_photos(nobody, [0], start, enough=enough, config=SessionConfig())  # type: ignore[arg-type]


def test_from_nothing_each_part_is_clicked(monkeypatch: pytest.MonkeyPatch) -> None:
    (cost,) = costs(monkeypatch, LABELS, "nothing")
    assert (cost.clicks, cost.keys, cost.iou, cost.is_enough) == (2, 2 + 2, 1.0, True)
    # 4 keys, 2 clicks, 3 thoughts, and 2 answers.
    assert cost.seconds == pytest.approx(4 * 0.28 + 2 * 1.3 + 3 * 1.35 + 2 * (0.1 + BROWSER_S))


def test_what_is_predicted_right_is_not_clicked(monkeypatch: pytest.MonkeyPatch) -> None:
    (cost,) = costs(monkeypatch, LABELS, "predictions")
    assert (cost.clicks, cost.keys, cost.iou) == (0, 2, 1.0)
    (cost,) = costs(monkeypatch, with_rows(13, 13, 0, 0, 0), "predictions")
    assert (cost.clicks, cost.keys, cost.iou) == (1, 2 + 1, 1.0)


def test_corrections_inside_a_mask_and_negative_ones_take_more_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    # The hat (1) has no part of its own in the photo: it goes by Ctrl+Alt+click.
    (cost,) = costs(monkeypatch, with_rows(13, 13, 9, 9, 1), "predictions")
    assert (cost.clicks, cost.keys, cost.iou) == (1, 2 + 3, 1.0)
    # Both parts are good enough at first; the largest error is a face inside of the pants' mask: Ctrl+click.
    nearly = LABELS.copy()
    nearly[30:40] = 9
    (cost,) = costs(monkeypatch, nearly, "predictions", enough=0.74)
    assert cost.clicks == 0, "already enough: 0.75 of the face, 0.8 of the pants"
    (cost,) = costs(monkeypatch, nearly, "predictions", enough=0.9)
    assert cost.is_enough


def test_a_photo_that_is_never_right_ends_with_its_clicks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Page, "click", lambda self, click: self.click_seconds.append(0.1))
    (cost,) = costs(monkeypatch, LABELS, "nothing")
    assert (cost.clicks, cost.is_enough) == (6, False), "three for each of two parts"
    figures = summary([cost, PhotoCost("two", 2, 4, 0.2, 0.9, True)])
    assert (figures["photos"], figures["enough"], figures["enough_within_2_clicks"]) == (2, 1, 1)
    assert figures["clicks_per_photo"] == 4
