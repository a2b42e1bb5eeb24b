"""One photo in one request: nobody can tell from the answers what was remembered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock, patch

import numpy as np
import pytest
from numpy.typing import NDArray
from untrained import PHOTO, predictor_of

from ihp_backend.clicks import Click
from ihp_backend.geometry import Box
from ihp_backend.inference.predictor import Predictor
from ihp_backend.inference.prompts import Prompts

CLICKS = [Click(40, 30, "face"), Click(38, 70, "pants"), Click(45, 72, "pants"), Click(20, 50, "Tattoo")]
LABELS = {"face": ("face",), "pants": ("pants",), "Tattoo": ()}


def prefetch(predictor: Predictor) -> None:
    for step in predictor.open(PHOTO, "p").prefetch():
        step()


@contextmanager
def counted(predictor: Predictor) -> Iterator[list[int]]:
    """Counts how often the network's costly half runs."""
    runs = [0]
    encode = predictor.engine.parser.encode

    def counting(*args: Any) -> Any:
        runs[0] += 1
        return encode(*args)

    predictor.engine.parser.encode = counting
    yield runs
    predictor.engine.parser.encode = encode


@pytest.mark.parametrize("early_fusion", [False, True])
def test_the_answers_are_those_of_a_predictor_that_keeps_nothing(early_fusion: bool) -> None:
    keeping, plain = predictor_of(early_fusion=early_fusion), predictor_of(early_fusion=early_fusion, cache_mb=0)
    for count in range(1, len(CLICKS) + 1):
        clicks = CLICKS[:count]
        first = keeping.parse(PHOTO, clicks, labels=LABELS, key="p")
        again = keeping.parse(PHOTO, clicks, labels=LABELS, key="p")
        fresh = plain.parse(PHOTO, clicks, labels=LABELS)
        assert np.array_equal(first.logits, again.logits)
        assert np.array_equal(first.logits, fresh.logits)


def test_a_warm_click_runs_the_cheap_half_only() -> None:
    predictor = predictor_of()
    predictor.predict(PHOTO, labels=LABELS, key="p")
    prefetch(predictor)
    with counted(predictor) as runs:
        for click in CLICKS:
            predictor.predict(PHOTO, [click], labels=LABELS, wanted=[click.part], key="p")
        assert runs == [0]
        predictor.predict(PHOTO, CLICKS[:1], labels=LABELS, wanted=["face"], key="another photo")
        assert runs[0] >= 1


def test_early_fusion_keeps_no_features() -> None:
    predictor = predictor_of(early_fusion=True)
    prefetch(predictor)
    predictor.predict(PHOTO, CLICKS[:1], labels=LABELS, wanted=["face"], key="p")
    assert predictor.engine.features.size == 0


def test_the_same_question_is_computed_once() -> None:
    predictor = predictor_of(early_fusion=True)
    predictor.predict(PHOTO, CLICKS[:2], labels=LABELS, wanted=["face"], key="p")
    with counted(predictor) as runs:
        predictor.predict(PHOTO, CLICKS[:2], labels=LABELS, wanted=["pants"], key="p")
        assert runs == [0]


def test_memory_is_bounded() -> None:
    predictor = predictor_of(cache_mb=1)
    for number in range(12):
        predictor.parse(PHOTO, CLICKS[:1], labels=LABELS, key=str(number))
        assert 0 < predictor.engine.features.size <= 2**20


def test_a_moving_accepted_mask_is_another_question() -> None:
    predictor = predictor_of()
    masks: list[NDArray[np.bool_]] = [np.zeros(PHOTO.shape[:2], bool) for _ in range(2)]
    masks[0][10:30, 10:30], masks[1][40:60, 10:30] = True, True
    answers = [
        predictor.predict(PHOTO, CLICKS[:1], labels=LABELS, wanted=["face"], masks={"pants": mask}, key="p").masks[
            "face"
        ]
        for mask in masks
    ]
    plain = predictor_of(cache_mb=0).predict(
        PHOTO, CLICKS[:1], labels=LABELS, wanted=["face"], masks={"pants": masks[1]}
    )
    assert np.array_equal(answers[1], plain.masks["face"])


@pytest.mark.parametrize("everyone", [False, True])
def test_where_a_click_means_everyone_the_network_sees_its_click_free_prediction(everyone: bool) -> None:
    """So training has it: with an empty ``prev_mask`` a click means the one person it is on."""
    predictor = predictor_of()
    session = predictor.open(PHOTO, None)
    without = session.parse(Prompts(everyone=everyone))
    with patch.object(predictor.engine, "run", Mock(wraps=predictor.engine.run)) as runs:
        session.parse(Prompts([Click(20.0, 20.0, "face")], everyone=everyone))
    view, points, prev_mask = runs.call_args_list[-1].args[1:4]
    expected = predictor.engine.no_prev_mask(view)
    if everyone:
        without.write_prev_mask(view, expected)
    assert points
    assert np.allclose(prev_mask, expected, atol=1e-6)
    assert bool(prev_mask.any()) is everyone


def test_the_network_sees_accepted_masks_in_the_channels_of_their_labels() -> None:
    predictor = predictor_of()
    height, width = PHOTO.shape[:2]
    pants, tattoo = (np.zeros((height, width), bool) for _ in range(2))
    pants[60:110, 10:70], tattoo[20:50, 30:60] = True, True
    with patch.object(predictor.engine, "run", Mock(wraps=predictor.engine.run)) as runs:
        masks = {"pants": pants, "Tattoo": tattoo}
        parse = predictor.open(PHOTO, None).parse(Prompts(CLICKS[:1], labels=LABELS, masks=masks))
    view, _, prev_mask = runs.call_args_list[-1].args[1:4]
    channels = {label: parse.channels.of(label)[0] for label in masks}
    assert channels["Tattoo"] >= 20, "an open-class channel"
    for label, (x, y) in {"pants": (40, 85), "Tattoo": (45, 35)}.items():
        row, column = view.cell(x, y)
        assert prev_mask[channels[label], row, column] == 1
        assert prev_mask[:, row, column].sum() == 1
        share = (prev_mask[channels[label]] > 0.5).mean() * view.box.width * view.box.height
        assert share == pytest.approx(masks[label][view.box.slices].sum(), rel=0.1)
    others = np.delete(prev_mask, list(channels.values()), axis=0)
    assert not others.any()


def test_a_box_limits_its_label_and_no_other() -> None:
    predictor = predictor_of()
    box = Box(20, 20, 60, 50)
    asked: dict[str, Any] = {"labels": LABELS, "wanted": ["face", "pants"]}
    free = predictor.predict(PHOTO, CLICKS[:2], **asked).masks
    within = predictor.predict(PHOTO, CLICKS[:2], boxes={"face": box}, **asked).masks
    inside = np.zeros_like(free["face"])
    inside[20:50, 20:60] = True
    assert (free["face"] & ~inside).any()
    assert np.array_equal(within["face"], free["face"] & inside)
    assert np.array_equal(within["pants"], free["pants"])


def test_a_box_alone_is_a_click_where_its_label_is_seen_in_it() -> None:
    predictor = predictor_of()
    session = predictor.open(PHOTO)
    parse = session.parse(Prompts())
    label = max(predictor.schema.names[1:], key=parse.cells)
    seen = parse.mask(label)
    rows, columns = np.nonzero(seen)
    box = Box(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    (click,) = session.with_clicks_in_boxes(Prompts(boxes={label: box})).clicks
    assert (click.part, click.is_positive) == (label, True)
    assert seen[click.pixel(*seen.shape)]
    empty = Box(40, 30, 50, 44)  # Tattoo is a label of which nothing is seen: the middle of its box is clicked
    assert session.with_clicks_in_boxes(Prompts(labels=LABELS, boxes={"Tattoo": empty})).clicks == [
        Click(45, 37, "Tattoo")
    ]


def test_a_click_in_a_box_is_enough() -> None:
    session = predictor_of().open(PHOTO)
    prompts = Prompts(CLICKS[:1], labels=LABELS, boxes={"face": Box(20, 20, 60, 50)})
    assert list(session.with_clicks_in_boxes(prompts).clicks) == CLICKS[:1]
