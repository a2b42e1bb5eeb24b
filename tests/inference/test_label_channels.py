"""Corrections of labels that are no single part of the schema: unions of parts, and labels that it does not know.

The network is an untrained one, which says nonsense: what holds here holds of any.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.inference.label_channels import Channels
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.parts import LIP

UNION = "Upper body"
LABELS: dict[str, tuple[str, ...]] = {
    "face": ("face",),
    UNION: ("upper-clothes", "coat", "dress"),
    "Tattoo": (),
    "Backpack": (),
}
SHAPE = (70, 60)
PHOTO = np.random.default_rng(5).integers(0, 255, (*SHAPE, 3), np.uint8)
ROUND = [(20.5, 30.5, True), (40.5, 30.5, False), (20.5, 50.5, True), (10.5, 10.5, False)]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(3)
    return Predictor(HumanParser(ParserConfig(width=32, area=64 * 64)), version="untrained")


def clicks_of(label: str) -> list[Click]:
    return [Click(x, y, label, is_positive) for x, y, is_positive in ROUND]


def honours(mask: NDArray[np.bool_], clicks: list[Click]) -> bool:
    return all(mask[c.pixel(*SHAPE)] == c.is_positive for c in clicks)


@pytest.mark.parametrize("label", [UNION, "Tattoo"])
def test_each_click_of_a_row_of_corrections_is_honoured_with_all_before_it(predictor: Predictor, label: str) -> None:
    clicks = clicks_of(label)
    for count in range(1, len(clicks) + 1):
        mask = predictor.predict(PHOTO, clicks[:count], labels=LABELS, wanted=[label], key="row").masks[label]
        assert honours(mask, clicks[:count])


@pytest.mark.parametrize("label", [UNION, "Tattoo"])
@pytest.mark.parametrize("is_positive", [True, False])
def test_an_accepted_mask_is_corrected_with_its_clicks_or_as_it_is(
    predictor: Predictor, label: str, is_positive: bool
) -> None:
    first = clicks_of(label)[:1]
    mask = predictor.predict(PHOTO, first, labels=LABELS, wanted=[label]).masks[label]
    other = np.zeros(SHAPE, bool)
    other[:15] = True
    correction = Click(30.5, 40.5, label, is_positive)
    behind = predictor.predict(
        PHOTO, [correction], labels=LABELS, wanted=[label], earlier_clicks=first, masks={"Backpack": other}
    ).masks[label]
    painted = predictor.predict(
        PHOTO, [correction], labels=LABELS, wanted=[label], masks={label: mask, "Backpack": other}
    ).masks[label]
    for corrected in (behind, painted):
        assert honours(corrected, [correction])


def test_a_union_takes_what_any_of_its_parts_takes_and_nothing_of_the_others(predictor: Predictor) -> None:
    clicks = [*clicks_of(UNION), Click(30.5, 60.5, "face")]
    masks = predictor.predict(PHOTO, clicks, labels=LABELS, wanted=[UNION, "face"]).masks
    assert honours(masks[UNION], [c for c in clicks if c.part == UNION])
    assert masks["face"][60, 30]
    assert not (masks[UNION] & masks["face"]).any()


def test_corrections_of_unknown_labels_do_not_disturb_each_other(predictor: Predictor) -> None:
    """Click by click, in turns: each stays within its own clicks, and no pixel is of two."""
    turns = [
        Click(15.5, 20.5, "Tattoo"),
        Click(45.5, 50.5, "Backpack"),
        Click(30.5, 20.5, "Tattoo", False),
        Click(45.5, 30.5, "Backpack"),
        Click(15.5, 60.5, "Backpack", False),
    ]
    for count in range(2, len(turns) + 1):
        clicks = turns[:count]
        masks = predictor.predict(PHOTO, clicks, labels=LABELS, wanted=["Tattoo", "Backpack"], key="turns").masks
        for label, mask in masks.items():
            assert honours(mask, [c for c in clicks if c.part == label])
            assert not any(mask[c.pixel(*SHAPE)] for c in clicks if c.part != label and c.is_positive)
        assert not (masks["Tattoo"] & masks["Backpack"]).any()


def test_an_unknown_label_keeps_its_channel_while_others_come(predictor: Predictor) -> None:
    turns = [Click(15.5, 20.5, "Tattoo"), Click(45.5, 50.5, "Backpack"), Click(30.5, 30.5, "face")]
    parses = [predictor.parse(PHOTO, turns[:count], labels=LABELS) for count in range(1, 4)]
    for before, after in pairwise(parses):
        for label in {c.part for c in before.clicks}:
            assert before.channels.of(label) == after.channels.of(label)


@settings(max_examples=60, deadline=None)
@given(order=st.lists(st.integers(0, 9), min_size=1, max_size=25), open_classes=st.integers(2, 6))
def test_any_number_of_unknown_labels_is_heard(order: list[int], open_classes: int) -> None:
    """The labels that were clicked last have a channel of their own; the others speak through the background."""
    labels: dict[str, tuple[str, ...]] = {f"Thing {i}": () for i in range(10)}
    clicks = [Click(float(i), 1.0, f"Thing {n}") for i, n in enumerate(order)]
    channels = Channels(LIP, open_classes, labels, clicks)
    used = {click.part for click in clicks}
    own = [channels.of(label) for label in used if channels.of(label)]
    assert channels.of(clicks[-1].part)
    assert len(own) == len(set(own))
    for label in used:
        channel = channels.at(label, 1.0, 1.0)
        assert channel is not None
        if channels.of(label):
            assert len(LIP) <= channel < len(LIP) + open_classes
            assert channel in channels.used
        else:
            assert channel == 0
            assert label in channels.without_channel
    newest = list(dict.fromkeys(c.part for c in reversed(clicks)))
    assert {label for label in used if channels.of(label)} == set(newest[:open_classes])


def test_every_unknown_label_that_is_asked_for_gets_the_mask_of_a_pass_in_which_it_has_a_channel(
    predictor: Predictor,
) -> None:
    labels: dict[str, tuple[str, ...]] = {f"Thing {i}": () for i in range(7)}
    clicks = [Click(5.5 + 8 * i, 10.5 + 7 * i, label) for i, label in enumerate(labels)]
    masks = predictor.predict(PHOTO, clicks, labels=labels, wanted=list(labels)).masks
    assert set(masks) == set(labels)
    for label, mask in masks.items():
        assert [c.part for c in clicks if mask[c.pixel(*SHAPE)]] == [label]
    assert np.stack(list(masks.values())).sum(0).max() == 1


def test_without_open_class_channels_an_unknown_label_gets_a_dot_at_its_click() -> None:
    torch.manual_seed(3)
    plain = Predictor(HumanParser(ParserConfig(width=32, area=64 * 64, open_channels=0)), version="untrained")
    masks = plain.predict(PHOTO, [Click(20.5, 30.5, "Tattoo")], labels=LABELS, wanted=["Tattoo"]).masks
    assert masks["Tattoo"][30, 20]
    assert masks["Tattoo"].sum() <= 9


def test_a_label_that_loses_its_channel_makes_what_was_seen_before_another_matter() -> None:
    labels: dict[str, tuple[str, ...]] = dict.fromkeys("ABC", ())
    clicks = [Click(1.0, 1.0, name) for name in "ABC"]
    before, after = Channels(LIP, 2, labels, clicks[:2]), Channels(LIP, 2, labels, clicks)
    assert before.agree_with(Channels(LIP, 2, labels, clicks[:1]))
    assert not after.agree_with(before)
