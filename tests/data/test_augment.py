"""Other views of a photo: image and labels stay together, left stays left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ihp_backend.data.augment import copy_paste, mirror, on_background, one_of_them, random_colours, random_view
from ihp_backend.data.sample import Sample
from ihp_backend.data.synthetic import draw_person
from ihp_backend.parts import HELEN, IGNORE, LIP, Schema


def painted() -> Sample:
    """A photo whose colours tell its labels: any view must keep them together."""
    _, labels = draw_person(np.random.default_rng(1), 300, 200)
    return Sample("x", np.repeat(labels[..., None] * 12, 3, axis=2).astype(np.uint8), labels)


def test_mirror_swaps_left_and_right() -> None:
    sample = painted()
    turned = mirror(sample, LIP)
    assert np.array_equal(turned.image, sample.image[:, ::-1])
    for left, right in ((14, 15), (16, 17), (18, 19)):
        assert np.array_equal(turned.labels == left, (sample.labels == right)[:, ::-1])
    assert np.array_equal(turned.labels == 13, (sample.labels == 13)[:, ::-1])
    assert np.array_equal(mirror(turned, LIP).labels, sample.labels)


def test_mirror_keeps_what_is_ignored() -> None:
    labels = np.array([[IGNORE, 14, 0]], np.uint8)
    assert mirror(Sample("x", np.zeros((1, 3, 3), np.uint8), labels), LIP).labels.tolist() == [[0, 15, IGNORE]]


def test_what_a_left_hand_alone_is_in_the_mirror_is_unknown() -> None:
    schema = LIP.extended(["Backpack", "Left-hand"])
    sample = Sample("x", np.zeros((1, 3, 3), np.uint8), np.array([[21, 20, 14]], np.uint8))
    turned = mirror(sample, schema)
    assert turned.labels.tolist() == [[15, 20, IGNORE]]
    assert turned.unknown == (21,), "the right hand, which nobody has drawn, may be one"
    assert mirror(replace(sample, unknown=(20, 21)), schema).unknown == (20, 21)


@pytest.mark.parametrize("schema", [LIP, HELEN])
def test_a_mirror_pairs_names(schema: Schema) -> None:
    for name, twin in zip(schema.names, schema.mirrored, strict=True):
        expected = name.replace("left-", "R-").replace("right-", "left-").replace("R-", "right-")
        assert schema.names[twin] == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_labels_move_with_the_image(seed: int) -> None:
    view = random_view(painted(), 96, 64, np.random.default_rng(seed))
    assert view.image.shape == (96, 64, 3)
    assert view.labels.shape == (96, 64)
    inside = view.labels != IGNORE
    # Within parts the colour is the label's; at their edges it is blended.
    same = np.abs(view.image[..., 0].astype(int) - 12 * view.labels.astype(int)) <= 6
    assert same[inside].mean() > 0.75


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_colours_change_but_stay_an_image(seed: int) -> None:
    image, _ = draw_person(np.random.default_rng(2), 96, 64)
    out = random_colours(image, np.random.default_rng(seed))
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert out.std() > 5


def test_somebody_beside() -> None:
    """Behind: the own person stays whole. Before: they lose what is covered. Either way each pixel is one person's."""
    own = np.zeros((40, 60), np.uint8)
    own[5:35, 20:40] = 5
    own[0] = IGNORE
    other = np.zeros((40, 60), np.uint8)
    other[10:40, 20:40] = 9
    photo = Sample("own", np.full((40, 60, 3), 10, np.uint8), own, objects=np.where(own == 5, 3, 0).astype(np.uint8))
    neighbour = Sample("other", np.full((40, 60, 3), 200, np.uint8), other)
    covered = set()
    for seed in range(20):
        both, theirs = copy_paste(photo, neighbour, np.random.default_rng(seed))
        assert set(np.unique(theirs)) <= {0, 9}
        assert ((both.image == 200).all(-1) == (theirs == 9)).all()
        assert (both.labels[theirs == 9] == 0).all()
        assert (both.labels[theirs == 0] == own[theirs == 0]).all()
        assert both.objects is not None
        assert ((both.objects == 3) == (both.labels == 5)).all()
        covered.add(bool(((own == 5) & (theirs == 9)).any()))
    assert covered == {True, False}


def with_opacity() -> Sample:
    """Two people of known opacity on white; what is around them is ignored."""
    labels = np.full((60, 80), IGNORE, np.uint8)
    labels[10:50, 10:30], labels[20:50, 45:70] = 5, 9
    people = np.where(labels == 5, 1, np.where(labels == 9, 2, 0)).astype(np.uint8)
    image = np.where(people[..., None] > 0, 100, 255).astype(np.uint8).repeat(3, axis=2)
    return Sample("two", image, labels, alpha=np.where(people > 0, 255, 0).astype(np.uint8), people=people)


def test_only_what_is_behind_people_changes() -> None:
    sample = with_opacity()
    background = np.random.default_rng(0).integers(0, 90, (50, 70, 3), np.uint8)
    out = on_background(sample, background, np.random.default_rng(1))
    assert sample.people is not None
    is_person = sample.people > 0
    assert (out.image[is_person] == 100).all()
    assert (out.image[~is_person] < 90).all()
    assert np.array_equal(out.labels, np.where(is_person, sample.labels, 0))


def test_of_several_people_one_is_meant() -> None:
    sample, meant = with_opacity(), set()
    for seed in range(12):
        own, others = one_of_them(sample, np.random.default_rng(seed))
        assert others is not None
        assert set(np.unique(own.labels)) | set(np.unique(others)) == {0, 5, 9, IGNORE}
        assert not ((own.labels == 5) & (others == 5)).any()
        assert np.array_equal(np.where(others > 0, others, own.labels), sample.labels)
        meant.add(5 if (own.labels == 5).any() else 9)
    assert meant == {5, 9}
    alone = replace(sample, people=np.minimum(sample.people, 1) if sample.people is not None else None)
    assert one_of_them(alone, np.random.default_rng(0)) == (alone, None)


def test_opacity_people_and_objects_move_with_the_labels() -> None:
    sample = replace(with_opacity(), labels=np.where(with_opacity().labels == IGNORE, 0, with_opacity().labels))
    sample = replace(sample, objects=np.where(sample.labels == 9, 40, 0).astype(np.uint8))
    for seed in range(8):
        view = random_view(mirror(sample, LIP), 96, 96, np.random.default_rng(seed))
        assert view.alpha is not None
        assert view.people is not None
        assert view.objects is not None
        assert ((view.objects == 40) == (view.labels == 9)).all()
        inside = view.labels != IGNORE
        assert ((view.people > 0) == (view.labels > 0))[inside].mean() > 0.99
        assert ((view.alpha > 127) == (view.labels > 0))[inside].mean() > 0.97
        assert (view.alpha[~inside] < 255).all()
