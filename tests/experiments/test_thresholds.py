"""The measure of thresholds, on a network whose mIoU depends on one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ihp_backend.evaluation.protocol import Evaluation, ProtocolConfig
from ihp_backend.experiments import thresholds as module
from ihp_backend.experiments.thresholds import Threshold, effects, thresholds
from ihp_backend.inference import people, roi
from ihp_backend.inference.postprocess.steps import STEPS, PostprocessConfig
from ihp_backend.parts import LIP


def test_all_options_and_constants_are_there_with_their_values() -> None:
    found = {threshold.name: threshold.value for threshold in thresholds()}
    assert found["enforce_clicks.reach"] == PostprocessConfig().enforce_clicks.reach  # type: ignore[union-attr]
    assert found["people.near"] == vars(people)["_NEAR"]
    assert {name.partition(".")[0] for name in found} - set(STEPS) == {"click_free", "people", "roi"}


@pytest.mark.parametrize(("value", "scaled"), [(4, 2), (5, 2), (0.4, 0.2)])
def test_whole_numbers_stay_whole(value: float, scaled: float) -> None:
    assert Threshold("roi", "_STEPS", value).scaled(0.5) == scaled


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """mIoU is the margin of the region of interest, and a large one is impossible."""
    seen: list[float] = []

    def evaluate(predictor: Any, data: Any, config: ProtocolConfig, quiet: bool) -> Evaluation:
        margin = vars(roi)["_MARGIN"]
        seen.append(margin)
        if margin > 0.1:
            raise ValueError("the region is larger than the photo")
        found = Evaluation.of_none(LIP, config.max_clicks)
        for budget, matrix in found.confusions.items():
            matrix[0, 0], matrix[0, 1] = round(10000 * (margin + budget / 10)), 10000
            matrix[0, 1] -= matrix[0, 0]
        return found

    monkeypatch.setattr(module, "evaluate", evaluate)
    return seen


def test_each_value_is_tried_and_put_back(looked_at: list[float]) -> None:
    today = vars(roi)["_MARGIN"]
    (threshold,) = (t for t in thresholds() if t.name == "roi.margin")
    nobody: Any = None
    found = list(effects(lambda steps: nobody, nobody, ProtocolConfig(), [threshold]))
    assert vars(roi)["_MARGIN"] == today
    assert looked_at == [today, 0.0, today / 2, 2 * today]
    assert [effect.tried for effect in found] == [0.0, today / 2, 2 * today]
    assert np.allclose(found[0].points, -100 * today, atol=0.02)
    assert np.allclose(found[1].points, -50 * today, atol=0.02)
    assert found[2].points == (), "impossible"


def test_options_of_a_step_are_loaded_with(looked_at: list[float]) -> None:
    (threshold,) = (t for t in thresholds() if t.name == "progressive_merge.edge")
    steps: list[PostprocessConfig] = []
    nobody: Any = None

    def load(with_steps: PostprocessConfig) -> Any:
        steps.append(with_steps)

    list(effects(load, nobody, ProtocolConfig(), [threshold], (0.0, 1.0)))
    edges = [with_steps.progressive_merge.edge for with_steps in steps]  # type: ignore[union-attr]
    assert edges == [threshold.value, 0], "what is as it is today is not tried again"
