"""Several people in one photo, and small ones in a large photo: drawn, so that the true masks are known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from drawn_group import HEIGHT, WIDTH, drawn, group, middle
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import Box, View, box_of
from ihp_backend.inference.predictor import Predictor
from ihp_backend.parts import LIP

PARTS = ("face", "hair", "upper-clothes", "pants")


@cache
def shipped() -> Predictor:
    return Predictor.load("lip", device="cpu")


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


@pytest.mark.parametrize(
    ("seeds", "step", "most"),
    [
        pytest.param((0, 1), 230, 0.002, id="two apart"),
        pytest.param((0, 1, 2), 230, 0.002, id="three apart"),
        pytest.param((0, 1), 130, 0.1, id="two who touch"),
        pytest.param((0, 1, 2), 150, 0.03, id="three who touch"),
    ],
)
def test_a_mask_does_not_spill_to_the_neighbour(seeds: tuple[int, ...], step: int, most: float) -> None:
    image, labels = group(*seeds, step=step)
    spills, quality = [], []
    for who in range(len(seeds)):
        others = np.delete(labels, who, axis=0).any(0)
        for part in PARTS:
            truth = labels[who] == LIP.names.index(part)
            if truth.sum() < 150:
                continue
            click = Click(*middle(truth), part)
            mask = shipped().predict(image, [click], wanted=[part], key=f"{seeds} {step}").masks[part]
            spills.append((mask & others).sum() / mask.sum())
            quality.append(iou(mask, truth))
    assert len(spills) >= 2 * len(seeds)
    assert np.mean(spills) < most
    assert np.mean(quality) > 0.65


def test_a_childs_face_before_an_adult_is_its_own() -> None:
    image, labels = (a.copy() for a in drawn(0))
    small, ids = (cv2.resize(a, None, fx=0.55, fy=0.55, interpolation=cv2.INTER_NEAREST) for a in drawn(1))
    rows, columns = slice(HEIGHT - small.shape[0], HEIGHT), slice(WIDTH - small.shape[1], WIDTH)
    image[rows, columns][ids > 0] = small[ids > 0]
    labels[rows, columns][ids > 0] = 0
    child = np.zeros_like(labels)
    child[rows, columns] = ids
    face, adults = (a == LIP.names.index("face") for a in (child, labels))
    mask = shipped().predict(image, [Click(*middle(face), "face")], wanted=["face"]).masks["face"]
    assert mask[face].mean() > 0.5
    assert not (mask & adults).any()


def test_everyone_returns_both_people_and_a_click_one() -> None:
    image, labels = group(0, 1, step=230)
    faces = labels == LIP.names.index("face")
    click = [Click(*middle(faces[0]), "face")]
    one = shipped().predict(image, click, wanted=["face"], key="two").masks["face"]
    both = shipped().predict(image, click, wanted=["face"], key="two", everyone=True).masks["face"]
    assert iou(one & (faces[0] | faces[1]), faces[0]) > 0.5
    assert not one[faces[1]].any()
    assert both[faces[0]].mean() > 0.5
    assert both[faces[1]].mean() > 0.5


def test_what_of_a_mask_is_on_others_is_found() -> None:
    image, labels = group(0, 1, step=230)
    one, other = labels == LIP.names.index("upper-clothes")
    click = Click(*middle(one), "upper-clothes")
    people = shipped().predict(image, [click], wanted=["upper-clothes"]).people
    assert iou(people.on_others(one | other, [click]), other) > 0.9
    assert not people.on_others(one, [click]).any()
    wall = Click(2.5, 2.5, "upper-clothes")
    assert not people.on_others(one | other, [wall]).any(), "nobody is meant"


def test_a_small_person_in_a_large_photo_is_cut_out_as_sharply_as_alone() -> None:
    """400 pixels of 3000: what matters is the crop that the network sees, not the photo around it."""
    top, left = 1900, 2600
    cell = slice(top, top + HEIGHT), slice(left, left + WIDTH)
    alone, large = [], []
    for seed in range(5):  # of one drawn part, the outcome is chance
        person, ids = drawn(seed)  # 430 pixels high
        photo = cv2.resize(person[:20, :20].mean((0, 1), keepdims=True).astype(np.uint8), (4000, 3000))
        photo[cell] = person
        for part in PARTS:
            truth = ids == LIP.names.index(part)
            if truth.sum() < 150:
                continue
            x, y = middle(truth)
            near, far = Click(x, y, part), Click(x + left, y + top, part)
            mask = shipped().predict(person, [near], wanted=[part], key=f"alone {seed}").masks[part]
            alone.append(iou(mask, truth))
            mask = shipped().predict(photo.astype(np.uint8), [far], wanted=[part], key=f"large {seed}").masks[part]
            assert mask.sum() == mask[cell].sum(), "nothing of it lies elsewhere"
            large.append(iou(mask[cell], truth))
    assert np.mean(large) > np.mean(alone) - 0.02


def test_whose_each_pixel_is_agrees_with_whose_a_place_is() -> None:
    image, _ = group(0, 1, step=230)
    people = shipped().predict(image, key="two whole").people
    view = View(Box(40, 0, image.shape[1] + 60, HEIGHT), 96, 128)  # partly beyond the photo
    owners = people.owners(view)
    assert owners.shape == (48, 64)
    assert set(np.unique(owners)) == {0, *people.boxes}
    rng = np.random.default_rng(1)
    for row, column in rng.integers((0, 0), owners.shape, (200, 2)):
        x, y = view.out_of_grid(column + 0.5, row + 0.5)
        near = np.unique(owners[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3])
        if len(near) == 1 and x < image.shape[1]:  # away from the edges, which the two grids round apart
            assert (people.at(x, y) or 0) == owners[row, column]
    nobody = replace(people, boxes={}, instance_map=np.zeros_like(people.instance_map))
    assert not nobody.owners(view).any()


def test_whom_a_mask_lies_on() -> None:
    image, labels = group(0, 1, step=230)
    people = shipped().predict(image, key="two whole").people
    for who in labels > 0:
        box = box_of(who)
        assert box is not None
        assert people.under(box, who[box.slices]) == people.at(*middle(who))
    assert people.under(Box(0, 0, 3, 2), np.ones((2, 3), bool)) is None
    assert people.under(Box(0, 0, 0, 0), np.ones((0, 0), bool)) is None
