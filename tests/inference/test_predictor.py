"""What is promised of every answer, whatever the network says: here an untrained one, which says nonsense."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.data.synthetic import draw_person
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.weights import WeightsError
from ihp_backend.parts import LIP

LABELS = {name: (name,) for name in LIP.names} | {
    "Upper body": ("upper-clothes", "coat", "dress"),
    "Tattoo": (),
    "Backpack": (),
    "Left hand": (),
}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(3)
    return Predictor(HumanParser(ParserConfig(width=32, area=64 * 64)), version="untrained")


@pytest.fixture(scope="module")
def shipped() -> Predictor:
    """Weights that see something, where a promise is of what is seen."""
    return Predictor.load("lip", device="cpu")


PERSON = draw_person(np.random.default_rng(0), 240, 160)[0]


def noise(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


@st.composite
def requests(draw: st.DrawFn) -> tuple[NDArray[np.uint8], list[Click], dict[str, NDArray[np.bool_]]]:
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    names = st.sampled_from(["face", "hair", "left-arm", "background", "Upper body", "Tattoo", "Backpack"])
    click = st.builds(Click, st.floats(0, width), st.floats(0, height), names, st.booleans())
    accepted: dict[str, NDArray[np.bool_]] = {}
    for name in draw(st.lists(names, max_size=2, unique=True)):
        mask = np.zeros((height, width), bool)
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        mask[top : top + draw(st.integers(1, 30)), left : left + draw(st.integers(1, 30))] = True
        accepted[name] = mask
    return noise(0, height, width), draw(st.lists(click, min_size=1, max_size=7)), accepted


@settings(max_examples=60, deadline=None)
@given(requests())
def test_clicks_are_honoured_and_accepted_masks_stay(
    predictor: Predictor, request_: tuple[NDArray[np.uint8], list[Click], dict[str, NDArray[np.bool_]]]
) -> None:
    image, clicks, accepted = request_
    shape = image.shape[:2]
    wanted = sorted({c.part for c in clicks})
    prediction = predictor.predict(image, clicks, labels=LABELS, wanted=wanted, masks=accepted)
    last = {click.pixel(*shape): click for click in clicks}  # of several on one pixel the newest counts
    for label in wanted:
        mask = prediction.masks[label]
        assert mask.shape == shape
        assert mask.dtype == bool
        assert 0 <= prediction.scores[label] <= 1
        for pixel, click in last.items():
            others = any(c.pixel(*shape) == pixel and c.part != click.part for c in clicks)
            if others:
                continue
            if click.part == label:
                assert mask[pixel] == click.is_positive
            elif click.is_positive:
                assert not mask[pixel]


@settings(max_examples=5, deadline=None)
@given(st.integers(120, 300), st.integers(80, 200))
def test_parts_do_not_overlap(shipped: Predictor, height: int, width: int) -> None:
    prediction = shipped.predict(cv2.resize(PERSON, (width, height)).astype(np.uint8))
    assert len(prediction.masks) >= 4
    assert "background" not in prediction.masks
    assert np.stack(list(prediction.masks.values())).sum(0).max() == 1
    assert all(mask.any() for mask in prediction.masks.values())
    assert all(0 < score <= 1 for score in prediction.scores.values())
    assert 0 < prediction.score <= 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 200), (200, 7)])
def test_where_nobody_is_nothing_is_answered(predictor: Predictor, height: int, width: int) -> None:
    prediction = predictor.predict(noise(1, height, width))
    assert (prediction.masks, prediction.scores, prediction.score) == ({}, {}, 0.0)


def test_whole_body_help_adds_what_is_seen_and_not_accepted(shipped: Predictor) -> None:
    row, column = np.argwhere(shipped.predict(PERSON).masks["face"]).mean(0)
    click = [Click(float(column), float(row), "face")]
    alone = shipped.predict(PERSON, click, wanted=["face"])
    helped = shipped.predict(PERSON, click, wanted=["face"], suggest=True)
    assert list(alone.masks) == ["face"]
    assert len(helped.masks) >= 3
    assert next(iter(helped.masks)) == "face"
    assert np.array_equal(helped.masks["face"], alone.masks["face"])
    assert "background" not in helped.masks
    assert np.stack(list(helped.masks.values())).sum(0).max() == 1
    for other in list(helped.masks)[1:3]:
        accepted = {other: helped.masks[other]}
        assert other not in shipped.predict(PERSON, click, wanted=["face"], suggest=True, masks=accepted).masks


def test_a_label_of_several_parts_is_their_union(predictor: Predictor) -> None:
    image = noise(2, 80, 60)
    union = predictor.parse(image, labels={"Upper body": LABELS["Upper body"], "hair": ("hair",)}).mask("Upper body")
    alone = predictor.parse(image)
    assert np.array_equal(union, np.isin(alone.label_map(), [LIP.names.index(p) for p in LABELS["Upper body"]]))


def test_labels_that_the_schema_does_not_know_do_not_disturb_each_other(predictor: Predictor) -> None:
    clicks = [Click(10, 10, "Tattoo"), Click(40, 30, "Backpack"), Click(20, 50, "Left hand")]
    prediction = predictor.predict(noise(3, 60, 50), clicks, labels=LABELS, wanted=["Tattoo", "Backpack", "Left hand"])
    masks = [prediction.masks[c.part] for c in clicks]
    assert np.stack(masks).sum(0).max() == 1
    for click, mask in zip(clicks, masks, strict=True):
        assert mask[click.pixel(60, 50)]


def test_more_unknown_labels_than_open_class_channels(predictor: Predictor) -> None:
    labels = {f"thing {i}": () for i in range(6)}
    clicks = [Click(5 + 8 * i, 20, name) for i, name in enumerate(labels)]
    prediction = predictor.predict(noise(3, 50, 60), clicks, labels=labels, wanted=list(labels))
    assert set(prediction.masks) == set(labels)  # each has its click at least
    for name, mask in prediction.masks.items():
        for click in clicks:
            assert mask[click.pixel(50, 60)] == (click.part == name)


def test_the_same_question_the_same_answer(predictor: Predictor) -> None:
    image, clicks = noise(4, 70, 50), [Click(20, 20, "face")]
    one = predictor.predict(image, clicks, key="k", wanted=["face"])
    again = predictor.predict(image, clicks, key="k", wanted=["face"])  # now from the memory of the photo
    fresh = predictor.predict(image, clicks, wanted=["face"])
    assert np.array_equal(one.masks["face"], again.masks["face"])
    assert np.array_equal(one.masks["face"], fresh.masks["face"])


def test_a_previous_parse_of_another_view_is_carried_over(predictor: Predictor) -> None:
    """Found in a long evaluation: a click outside of the first crop moves the crop."""
    image = noise(5, 90, 120)
    first = predictor.parse(image, [Click(20, 20, "face")])
    out = np.zeros((24, 30, 26), np.float32).transpose(2, 0, 1)[: len(first.logits)]
    second = predictor.parse(image, [Click(20, 20, "face"), Click(118, 88, "hair")], previous=first)
    first.write_prev_mask(second.view, out := np.zeros_like(second.logits))
    assert np.isfinite(out).all()
    assert out.max() <= 1 + 1e-6
    inside = out.sum(0)
    assert inside.max() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("image", "clicks", "accepted", "expected"),
    [
        (np.zeros((5, 5), np.uint8), [], {}, "expected uint8"),
        (np.zeros((5, 5, 4), np.uint8), [], {}, "expected uint8"),
        (np.zeros((0, 5, 3), np.uint8), [], {}, "expected uint8"),
        (np.zeros((5, 5, 3), np.float32), [], {}, "float32"),
        (np.zeros((5, 5, 3), np.uint8), [Click(1, 1, "wing")], {}, "'wing'"),
        (np.zeros((5, 5, 3), np.uint8), [], {"face": np.zeros((5, 6), bool)}, r"\(5, 6\)"),
    ],
)
def test_what_cannot_be_is_named(
    predictor: Predictor,
    image: NDArray[np.uint8],
    clicks: list[Click],
    accepted: dict[str, NDArray[np.bool_]],
    expected: str,
) -> None:
    with pytest.raises(ValueError, match=expected):
        predictor.predict(image, clicks, masks=accepted)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(WeightsError, match="no GPU"):
        Predictor.load("lip", device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_says_what_the_cpu_says() -> None:
    image, clicks = noise(6, 200, 150), [Click(70, 40, "face")]
    masks = [
        Predictor.load("lip", device=device).predict(image, clicks, wanted=["face"]).masks["face"]
        for device in ("cpu", "cuda")
    ]
    assert (masks[0] == masks[1]).mean() > 0.99
