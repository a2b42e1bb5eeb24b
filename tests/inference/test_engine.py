"""Features are computed once for a view, and nobody can tell from the answers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock, patch

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.data.synthetic import draw_person
from ihp_backend.geometry import Box, View
from ihp_backend.inference.click_free import click_free
from ihp_backend.inference.engine import Engine
from ihp_backend.inference.predictor import Predictor
from ihp_backend.inference.prompts import Prompts
from ihp_backend.network.click_maps import Point
from ihp_backend.network.parser import HumanParser, ParserConfig

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
PHOTO = draw_person(np.random.default_rng(1), 120, 80)[0]
CLICKS = [Click(40, 30, "face"), Click(38, 70, "pants"), Click(45, 72, "pants"), Click(20, 50, "Tattoo")]
LABELS = {"face": ("face",), "pants": ("pants",), "Tattoo": ()}


def predictor_of(*, early_fusion: bool = False, cache_mb: int = 16) -> Predictor:
    torch.manual_seed(3)
    parser = HumanParser(ParserConfig(width=32, area=64 * 64, early_fusion=early_fusion))
    return Predictor(parser, version="untrained", cache_mb=cache_mb)


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


@pytest.mark.parametrize("failures", [1, 100])
def test_a_gpu_without_memory_gives_up_features_then_the_cpu_answers(
    failures: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    predictor, plain = predictor_of(), predictor_of()
    device, decode, left = predictor.engine.parser, HumanParser.decode, [failures]

    def full(self: HumanParser, *args: Any) -> Any:
        if self is device and left[0] > 0:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(self, *args)

    expected = plain.parse(PHOTO, CLICKS, labels=LABELS, key="p")
    monkeypatch.setattr(HumanParser, "decode", full)
    answer = predictor.parse(PHOTO, CLICKS, labels=LABELS, key="p")
    for label in LABELS:
        assert np.array_equal(answer.mask(label), expected.mask(label))
    assert "kept features are given up" in caplog.text
    assert ("the CPU answers" in caplog.text) == (failures > 1)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_threads_that_ask_together_get_what_each_would_get_alone(device: str) -> None:
    torch.manual_seed(3)
    parser = HumanParser(ParserConfig(width=32, area=64 * 64))
    alone, together = Engine(parser, device=device, batch=1), Engine(parser, device=device, batch=4)
    view = View(Box(0, 0, 80, 120), 80, 48)
    photos = [draw_person(np.random.default_rng(seed), 120, 80)[0] for seed in range(8)]
    points = [[Point(10.0 + 3 * i, 20.0 + i, 13), Point(30.0, 50.0, 9, i % 2 == 0)][: i % 3] for i in range(8)]
    sizes: list[int] = []
    decode = together.parser.decode

    def counting(features: Any, maps: Any, previous: Any) -> Any:
        sizes.append(len(maps))
        return decode(features, maps, previous)

    together.parser.decode = counting

    def ask(engine: Engine, i: int) -> NDArray[np.float32]:
        logits, embedding = engine.run(photos[i], view, points[i], engine.no_prev_mask(view), key=f"photo {i}")
        assert embedding is not None
        return logits

    expected = [ask(alone, i) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):  # the features are new, then known
            found = list(pool.map(lambda i: ask(together, i), range(8)))
            for one, other in zip(found, expected, strict=True):
                assert np.abs(one - other).max() < 0.1  # bfloat16 sums in another order
    assert sum(sizes) == 24
    assert max(sizes) <= 4


def test_without_clicks_a_mirrored_photo_gives_the_mirrored_answer() -> None:
    """Left and right swapped: the mean over both ways knows no preferred side, which the network alone has."""
    predictor = predictor_of()
    view = View(Box(0, 0, 80, 120), 96, 64)
    order = [*predictor.schema.mirrored, *range(20, 24)]
    one, other = (click_free(predictor.engine, p, view, None) for p in (PHOTO, np.ascontiguousarray(PHOTO[:, ::-1])))
    assert np.abs(one - other[order, :, ::-1]).max() < 0.1  # bfloat16
    nothing = predictor.engine.no_prev_mask(view)
    plain = predictor.engine.run(PHOTO, view, (), nothing)[0]
    turned = predictor.engine.run(PHOTO, view, (), nothing, mirrored=True)[0]
    assert np.abs(plain - turned[order, :, ::-1]).max() > 0.1


@pytest.mark.parametrize(("options", "passes"), [({}, 4), ({"flip": False}, 2), ({"second_size": False}, 2)])
def test_the_passes_without_clicks_can_be_left_out(options: dict[str, bool], passes: int) -> None:
    predictor = predictor_of()
    view = View(Box(0, 0, 80, 120), 96, 64)
    runs = Mock(wraps=predictor.engine.run)
    with patch.object(predictor.engine, "run", runs):
        found = click_free(predictor.engine, PHOTO, view, None, **options)
    assert runs.call_count == passes
    plain = predictor.engine.run(PHOTO, view, (), predictor.engine.no_prev_mask(view))[0]
    assert 0 < np.abs(found - plain).mean() < np.abs(plain).mean(), "a mean of what the passes say"


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
