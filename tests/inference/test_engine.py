"""The network runs for many who ask at the same time, on a GPU that may be full."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from untrained import PHOTO, predictor_of

from ihp_backend.clicks import Click
from ihp_backend.data.synthetic import draw_person
from ihp_backend.geometry import Box, View
from ihp_backend.inference.engine import Engine
from ihp_backend.network.click_maps import Point
from ihp_backend.network.parser import HumanParser, ParserConfig

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CLICKS = [Click(40, 30, "face"), Click(38, 70, "pants"), Click(45, 72, "pants"), Click(20, 50, "Tattoo")]
LABELS = {"face": ("face",), "pants": ("pants",), "Tattoo": ()}


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

    def counting(features: Any, maps: Any, prev_mask: Any) -> Any:
        sizes.append(len(maps))
        return decode(features, maps, prev_mask)

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
