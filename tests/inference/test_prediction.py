"""How a parse is read: masks, label maps and scores of logits that are drawn by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import Box, View
from ihp_backend.inference.label_channels import Channels
from ihp_backend.inference.people import People
from ihp_backend.inference.prediction import Parse, Prediction
from ihp_backend.parts import LIP

FACE, COAT, HAIR = (LIP.names.index(name) for name in ("face", "coat", "hair"))
LABELS = {name: (name,) for name in LIP.names} | {"Upper body": ("upper-clothes", "coat")}
VIEW = View(Box(20, 10, 100, 70), 60, 80)
"""80x60 pixels of a photo of 120x90, as large for the network as they are: a stride-2 pixel is 2x2 of them."""


def parse_of(ids: NDArray[np.int64], *clicks: Click, by: float = 2.0, view: View = VIEW) -> Parse:
    logits = np.zeros((len(LIP), *ids.shape), np.float32)
    np.put_along_axis(logits, ids[None], by, axis=0)
    labels = {name: own for name, own in LABELS.items() if name != "Upper body"}
    return Parse(90, 120, view, logits, Channels(LIP, 0, labels, clicks), clicks)


def block(top: int, left: int, bottom: int, right: int, part: int = COAT) -> NDArray[np.int64]:
    ids = np.zeros((30, 40), np.int64)
    ids[top:bottom, left:right] = part
    return ids


def test_probabilities_are_a_softmax() -> None:
    probabilities = parse_of(block(0, 0, 30, 20)).probabilities
    assert np.allclose(probabilities.sum(0), 1, atol=1e-6)
    lead = math.exp(2) / (math.exp(2) + len(LIP) - 1)
    assert probabilities[COAT, 3, 3] == pytest.approx(lead, rel=1e-5)
    assert probabilities[COAT, 3, 30] == pytest.approx((1 - lead) / (len(LIP) - 1), rel=1e-5)


def test_the_margin_is_the_lead_over_the_best_other_channel() -> None:
    parse = parse_of(block(0, 0, 30, 20))
    parse.logits[HAIR] = 0.5
    margin = parse.margin([COAT])
    assert np.allclose(margin[:, :20], 1.5)
    assert np.allclose(margin[:, 20:], -2.0), "behind the background"
    both = parse.margin([COAT, HAIR])
    assert np.allclose(both[:, :20], 2.0)
    assert np.allclose(both[:, 20:], -1.5)


def test_foreground_and_the_best_channels() -> None:
    ids = block(0, 0, 30, 20)
    ids[:10, :10] = FACE
    parse = parse_of(ids)
    assert np.array_equal(parse.foreground(), ids != 0)
    assert np.array_equal(parse.is_best([FACE, COAT]), ids != 0)
    assert np.array_equal(parse.is_best([FACE]), ids == FACE)


def test_the_most_probable_of_some_channels_at_a_place() -> None:
    parse = parse_of(block(0, 20, 30, 40))
    assert parse.most_probable(20 + 41, 10 + 5, [FACE, COAT]) == COAT
    parse.logits[FACE, 0, 0] = parse.logits[FACE, 29, 39] = 5
    assert parse.most_probable(0, 0, [FACE, COAT]) == FACE, "outside of the view, its nearest pixel"
    assert parse.most_probable(119, 89, [FACE, COAT]) == FACE
    assert parse.most_probable(20 + 79, 10 + 57.5, [FACE, COAT]) == COAT, "one row above that corner"


def test_a_label_is_seen_from_four_stride_2_pixels_on() -> None:
    assert parse_of(block(4, 4, 6, 6)).is_seen("coat")
    assert not parse_of(block(4, 4, 7, 5)).is_seen("coat")
    assert not parse_of(block(4, 4, 6, 6)).is_seen("face")
    assert not parse_of(block(4, 4, 6, 6)).is_seen("scarf of no schema")


def test_a_mask_lies_where_its_part_leads_and_nowhere_outside_of_the_view() -> None:
    mask = parse_of(block(0, 10, 30, 40)).mask("coat")
    expected = np.zeros((90, 120), bool)
    expected[10:70, 40:100] = True
    assert mask.shape == (90, 120)
    assert not mask[~expected].any()
    assert mask[10:70, 41:100].all()
    assert np.array_equal(parse_of(block(0, 10, 30, 40), by=0.2).mask("coat"), mask), "by however little it leads"


def test_clicks_are_inside_their_own_mask_and_outside_of_others_to_the_pixel() -> None:
    clicks = (Click(50.5, 30.5, "coat"), Click(60.5, 30.5, "face"), Click(70.5, 30.5, "coat", False))
    parse = parse_of(block(0, 10, 30, 40, FACE), *clicks)
    coat, face = parse.mask("coat"), parse.mask("face")
    assert coat[30, 50]
    assert coat.sum() == 9, "the click's pixel and those around it"
    assert not coat[30, 70]
    assert face[30, 60]
    assert not face[29:32, 49:52].any()
    assert face[30, 70], "a negative click speaks of its own part alone"
    large = parse_of(block(0, 10, 30, 40, FACE), clicks[0], view=View(Box(0, 0, 120, 90), 60, 80))
    assert large.mask("coat").sum() == 9


def test_of_clicks_on_one_pixel_the_newest_counts() -> None:
    yes, no = Click(50.5, 30.5, "coat"), Click(50.2, 30.9, "coat", False)
    ids = block(0, 0, 30, 40)
    assert not parse_of(ids, yes, no).mask("coat")[30, 50]
    assert parse_of(ids, no, yes).mask("coat")[30, 50]
    near = Click(51.5, 30.5, "coat", False)
    assert parse_of(ids, yes, near).mask("coat")[30, 50], "one beside it does not take its pixel"
    assert not parse_of(ids, near, yes).mask("coat")[30, 51]


def test_a_label_map_is_the_parts_and_their_clicks() -> None:
    ids = block(0, 10, 30, 40)
    parse = parse_of(ids, Click(50.5, 30.5, "face"), Click(5.5, 5.5, "hair"), Click(60.5, 30.5, "coat", False))
    found = parse.label_map()
    expected = np.zeros((90, 120), np.uint8)
    expected[10:70, 40:100] = COAT
    expected[30, 50], expected[5, 5] = FACE, HAIR
    assert (found != expected).sum() <= 60, "one column along the edge"
    assert found[30, 50] == FACE
    assert found[5, 5] == HAIR
    assert found[30, 60] == COAT
    parse.logits[HAIR] = 0.5
    only = parse_of(ids).label_map([0, HAIR])
    assert set(np.unique(only)) == {0}
    allowed = Parse(90, 120, VIEW, parse.logits, parse.channels, parse.clicks).label_map([HAIR, FACE])
    assert set(np.unique(allowed[10:70, 20:100])) == {HAIR, FACE}
    assert allowed[30, 50] == FACE


def test_the_score_is_the_expected_iou() -> None:
    parse = parse_of(block(0, 0, 30, 20))
    lead = math.exp(2) / (math.exp(2) + len(LIP) - 1)
    other = (1 - lead) / (len(LIP) - 1)
    assert parse.score("coat") == pytest.approx(600 * lead / (600 + 600 * other), rel=1e-4)
    assert parse.score("face") == 0
    assert parse.score("scarf of no schema") == 0


def test_a_prediction_scores_the_mean_of_its_masks() -> None:
    parse = parse_of(block(0, 0, 30, 20))
    people = People.of(parse)
    mask = np.ones((90, 120), bool)
    assert Prediction({"a": mask, "b": mask}, {"a": 0.25, "b": 0.75}, people, parse).score == 0.5
    assert Prediction({}, {}, people, parse).score == 0


def test_another_view_sees_the_same_logits_and_background_beyond() -> None:
    parse = parse_of(block(5, 5, 25, 35))
    assert parse.seen_from(VIEW) is parse.logits
    moved = View(Box(40, 20, 120, 80), 60, 80)  # 20 pixels to the right, 10 down: 10 columns and 5 rows
    seen = parse.seen_from(moved)
    assert np.allclose(seen[:, :24, :29], parse.logits[:, 5:29, 10:39], atol=1e-4)
    assert (seen[:, 26:, 31:].argmax(0) == 0).all()
    assert (seen[0, 26:, 31:] == 5).all()
    wider = parse.seen_from(View(Box(0, 0, 120, 90), 46, 60))  # half as fine
    assert wider.shape == (len(LIP), 23, 30)
    assert wider.argmax(0)[10, 15] == COAT
    assert wider.argmax(0)[1, 1] == 0


def test_the_next_prev_mask_comes_from_the_networks_own_logits() -> None:
    parse = parse_of(block(0, 0, 30, 20))
    own = parse_of(block(0, 20, 30, 40)).logits
    merged = Parse(90, 120, VIEW, parse.logits, parse.channels, (), own)
    for source, expected in ((parse, parse.probabilities), (merged, parse_of(block(0, 20, 30, 40)).probabilities)):
        out = np.zeros_like(parse.logits)
        source.write_prev_mask(VIEW, out)
        assert np.allclose(out, expected, atol=1e-6)
    beyond = np.ones_like(parse.logits)
    parse.write_prev_mask(View(Box(100, 70, 120, 90), 60, 80), beyond)
    assert beyond[:, 5:, 5:].max() == 0
