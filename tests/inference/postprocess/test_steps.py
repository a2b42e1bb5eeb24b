"""Each step of post-processing can be left out, and then does nothing."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import Box, View
from ihp_backend.inference.label_channels import Channels
from ihp_backend.inference.people import People
from ihp_backend.inference.postprocess.guided_upsampling import GuidedUpsampling
from ihp_backend.inference.postprocess.steps import STEPS, GuessOptions, Inputs, PostprocessConfig, postprocess
from ihp_backend.inference.prediction import Parse
from ihp_backend.network.click_maps import Point
from ihp_backend.parts import LIP

FACE, COAT = LIP.names.index("face"), LIP.names.index("coat")
VIEW = View(Box(0, 0, 80, 60), 60, 80)
ALL = PostprocessConfig()


def parse_of(ids: NDArray[np.int64], *clicks: Click) -> Parse:
    """A parse of 80x60 pixels in which these channels (30, 40) lead by 2."""
    logits = np.zeros((len(LIP), 30, 40), np.float32)
    np.put_along_axis(logits, ids[None], 2, axis=0)
    return Parse(60, 80, VIEW, logits, Channels(LIP, 0, {name: (name,) for name in LIP.names}, clicks), clicks)


def blocks(*places: tuple[int, int, int, int], part: int = COAT) -> NDArray[np.int64]:
    ids = np.zeros((30, 40), np.int64)
    for top, left, bottom, right in places:
        ids[top:bottom, left:right] = part
    return ids


def shown(parse: Parse, inputs: Inputs, *left_out: str) -> NDArray[np.int64]:
    fresh = replace(parse, logits=parse.logits.copy())
    return np.asarray(postprocess(fresh, inputs, ALL.without(*left_out)).logits.argmax(0), np.int64)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_alone_is_left_out(step: str) -> None:
    config = ALL.without(step)
    assert not getattr(config, step)
    assert replace(config, **{step: getattr(ALL, step)}) == ALL


def test_several_steps_are_left_out() -> None:
    assert not any(getattr(ALL.without(*STEPS), field.name) for field in fields(ALL))
    assert ALL.without() == ALL


def test_an_unknown_step_is_named_beside_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"called smooth; expected: .*progressive_merge"):
        ALL.without("flip", "smooth")


def test_enforce_clicks() -> None:
    inputs = Inputs([Point(20.0, 20.0, FACE, True)])
    parse = parse_of(blocks((5, 5, 25, 25)), Click(20, 20, "face"))
    assert shown(parse, inputs)[10, 10] == FACE
    assert (shown(parse, inputs, "enforce_clicks") == COAT).sum() == 400


def test_remove_small_regions() -> None:
    parse = parse_of(blocks((5, 5, 25, 25), (2, 36, 4, 38)))
    assert shown(parse, Inputs())[2, 36] == 0
    assert shown(parse, Inputs(), "remove_small_regions")[2, 36] == COAT


def test_progressive_merge() -> None:
    first = Click(20, 30, "coat")
    before = parse_of(blocks((5, 5, 25, 15)), first)
    parse = parse_of(
        blocks((5, 5, 25, 25), (4, 5, 5, 12)), first, Click(40, 30, "coat")
    )  # to the right, and a row above
    inputs = Inputs(previous=before)
    weak = replace(parse, logits=parse.logits * np.float32(0.2))
    assert not shown(weak, inputs)[4, 5:12].any()
    assert (shown(weak, inputs)[5:25, 15:25] == COAT).all()
    assert (shown(weak, inputs, "progressive_merge")[4, 5:12] == COAT).all()


def test_guided_upsampling() -> None:
    photo = np.zeros((60, 80, 3), np.uint8)
    photo[:, 41:] = 255
    inputs = Inputs(upsampling=GuidedUpsampling.of(photo, VIEW))
    parse = parse_of(blocks((0, 0, 30, 20)))
    assert postprocess(parse, inputs, ALL).mask("coat")[30, 40], "up to the photo's edge"
    assert not postprocess(parse, inputs, ALL.without("guided_upsampling")).mask("coat")[30, 40]


def test_split_people() -> None:
    ids = blocks((10, 2, 30, 38))
    ids[2:10, 6:12] = ids[2:10, 28:34] = FACE
    assert len(People.of(parse_of(ids)).boxes) == 2
    assert len(People.of(parse_of(ids), None).boxes) == 1


def test_remove_wrong_piece() -> None:
    """An arm is taken for a coat: its features differ, and a negative click there takes all of it, nothing else."""
    ids = blocks((5, 5, 25, 20), (5, 20, 25, 32))
    embedding = np.zeros((2, 15, 20), np.float32)
    embedding[0] = 1
    embedding[:, :, 10:] = np.array([0, 1])[:, None, None]
    points = [Point(20.0, 30.0, COAT), Point(52.0, 30.0, COAT, False)]
    inputs = Inputs(points, embedding, before=ids)
    parse = parse_of(ids, Click(20, 30, "coat"), Click(52, 30, "coat", is_positive=False))
    found = shown(parse, inputs) == COAT
    assert found[5:25, 5:19].all()
    assert not found[5:25, 22:32].any()
    assert (shown(parse, inputs, "remove_wrong_piece") == COAT)[5:25, 22:32].mean() > 0.2, "a pinhole"


def test_drop_guesses() -> None:
    ids = blocks((0, 0, 30, 40))
    ids[:3, :3] = FACE
    sure, doubtful = (replace(parse_of(ids), logits=parse_of(ids).logits * np.float32(by)) for by in (4, 0.5))
    assert GuessOptions().keeps(sure, "face")
    assert not GuessOptions().keeps(doubtful, "face")
    assert GuessOptions(least_score=0.0).keeps(doubtful, "face")
    assert not GuessOptions(least_share=0.01).keeps(sure, "face"), "9 of 1200 pixels are too few"
