"""A whole annotating session: part after part, with corrections, in the real Label Studio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_task import middle as middle_of_mask
from drawn_task import open_person
from numpy.typing import NDArray
from one_region import mask_region
from running_demo import Demo
from studio import Studio, answered, mask_of

from ihp_backend.demo.project import hotkeys, label_config_of
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import LIP

pytestmark = pytest.mark.e2e

HEIGHT, WIDTH = 900, 600
AT_ONCE = ("Hair", "Face", "Upper-clothes", "Left-arm", "Right-arm")
ONE_BY_ONE = ("Pants", "Left-shoe", "Right-shoe")


def middle(truth: NDArray[np.uint8], label: str) -> tuple[float, float]:
    """The innermost place of a part, as shares of the photo's width and height."""
    return middle_of_mask(truth == LIP.names.index(label.lower()))


def at(mask: NDArray[np.bool_], x: float, y: float) -> bool:
    return bool(mask[int(y * HEIGHT), int(x * WIDTH)])


def test_a_whole_session(demo: Demo, studio: Studio, tmp_path: Path) -> None:
    xml = label_config_of("lip").replace('<Label value="Face"', '<Label value="Backpack"/><Label value="Face"')
    _, task, truth = open_person(demo, studio, tmp_path, "A whole session", xml, (HEIGHT, WIDTH))

    # Auto-accept: five parts, one click each.
    studio.auto_accept(True)
    ids = {}
    for label in AT_ONCE:
        studio.pick(label)
        ids[label] = answered(studio.click(*middle(truth, label)))["id"]
    assert {r["id"]: r["labels"] for r in studio.regions} == {ids[label]: [label] for label in AT_ONCE}
    studio.shot("s1-auto-accept")

    # One by one: a suggestion is corrected by Alt+click before it is accepted.
    studio.auto_accept(False)
    shoe = middle(truth, "Left-shoe")
    for label in ONE_BY_ONE:
        studio.pick(label)
        ids[label] = answered(studio.click(*middle(truth, label)))["id"]
        if label == "Pants":
            studio.pick(label)
            corrected = mask_of(answered(studio.click(*shoe, negative=True)))
            assert at(corrected, *middle(truth, label))
            assert not at(corrected, *shoe)
            (suggestion,) = (s for s in studio.suggestions if s["labels"] == [label])
            ids[label] = suggestion["id"]
            studio.shot("s2-alt-click-on-a-suggestion")
        studio.accept()
    assert {r["id"] for r in studio.regions} == set(ids.values())
    studio.wait_until_saved(8)

    # An accepted mask is corrected: Ctrl+Alt+click takes a place away, a click there gives it back.
    x, y = middle(truth, "Upper-clothes")
    hem = x, y + 0.04
    for is_back in (False, True):
        studio.pick("Upper-clothes")
        again = answered(studio.click(*hem, negative=not is_back, inside=True))
        assert again["id"] == ids["Upper-clothes"], "it replaces the region"
        assert at(mask_of(again), *hem) == is_back
        studio.accept()
    assert {r["id"] for r in studio.regions} == set(ids.values())

    # A label that the schema does not know: its click alone says what it is.
    wall = 0.06, 0.3
    studio.pick("Backpack")
    backpack = answered(studio.click(*wall))
    assert at(mask_of(backpack), *wall)
    studio.accept()
    assert len(studio.regions) == 9
    studio.shot("s3-unknown-label")

    # Undo takes it back, and redo brings the same one again.
    studio.press("Control+z")
    assert backpack["id"] not in {r["id"] for r in studio.regions}
    studio.shot("s4-undone")
    studio.press("Control+Shift+z")
    assert backpack["id"] in {r["id"] for r in studio.regions}
    studio.shot("s5-before-submit")
    studio.submit()

    (annotation,) = demo.client.annotations(task)
    painted = [r for r in annotation["result"] if r["type"] == "brushlabels"]
    assert sorted(r["value"]["brushlabels"][0] for r in painted) == sorted((*AT_ONCE, *ONE_BY_ONE, "Backpack"))
    assert {r["id"] for r in painted} == {*ids.values(), backpack["id"]}
    masks = {r["value"]["brushlabels"][0]: mask_of(r) for r in painted}
    assert {(r["original_width"], r["original_height"]) for r in painted} == {(WIDTH, HEIGHT)}
    assert all(mask.shape == (HEIGHT, WIDTH) and mask.any() for mask in masks.values())
    assert np.stack(list(masks.values())).sum(0).max() == 1, "no pixel is in two regions"
    assert all(at(masks[label], *middle(truth, label)) for label in (*AT_ONCE, *ONE_BY_ONE))
    assert not at(masks["Pants"], *shoe)
    assert at(masks["Backpack"], *wall)


@pytest.mark.parametrize("auto_accept", [True, False])
def test_clicks_that_are_faster_than_masks_lose_nothing(
    demo: Demo, studio: Studio, tmp_path: Path, auto_accept: bool
) -> None:
    """Label Studio drops the answers to all of them but the last, and that one has all masks."""
    xml = label_config_of("lip")
    _, task, truth = open_person(demo, studio, tmp_path, "In a hurry", xml, (HEIGHT, WIDTH))
    studio.auto_accept(auto_accept)
    studio.page.evaluate("() => document.activeElement.blur()")  # the switch keeps the keyboard
    keys = {label: key for key, label in hotkeys(xml)}
    labels = (*AT_ONCE, *ONE_BY_ONE)
    studio.click_in_a_hurry([(keys[label], *middle(truth, label)) for label in labels], 0.4)
    if not auto_accept:
        assert sorted(s["labels"] for s in studio.suggestions) == sorted([label] for label in labels)
        studio.accept()
    studio.shot(f"s8-in-a-hurry-{auto_accept}")
    assert sorted(r["labels"] for r in studio.regions) == sorted([label] for label in labels)
    studio.submit()
    (annotation,) = demo.client.annotations(task)
    masks = {r["value"]["brushlabels"][0]: mask_of(r) for r in annotation["result"] if r["type"] == "brushlabels"}
    assert len(annotation["result"]) == len(masks) == len(labels), "no label twice, and none of another control"
    assert all(at(masks[label], *middle(truth, label)) for label in labels)


def test_masks_follow_the_clicks_on_others_where_the_label_config_says_so(
    demo: Demo, studio: Studio, tmp_path: Path
) -> None:
    xml = label_config_of("lip").replace("<KeyPointLabels", '<KeyPointLabels ihp_refine="all"')
    _, task, truth = open_person(demo, studio, tmp_path, "Masks follow", xml, (HEIGHT, WIDTH))
    studio.auto_accept(True)
    ids: dict[str, str] = {}
    followed = 0
    for label in AT_ONCE:
        studio.pick(label)
        own, *others = studio.click(*middle(truth, label))["data"]["result"]
        ids[label] = own["id"]
        for other in others:
            assert other["id"] == ids[other["value"]["brushlabels"][0]], "it replaces the region"
        followed += len(others)
        studio.wait_until_saved(len(ids))
        assert {r["id"]: r["labels"] for r in studio.regions} == {i: [name] for name, i in ids.items()}
    assert followed > 0
    studio.shot("s6-masks-follow")
    studio.submit()
    (annotation,) = demo.client.annotations(task)
    painted = {r["value"]["brushlabels"][0]: mask_of(r) for r in annotation["result"] if r["type"] == "brushlabels"}
    assert painted.keys() == ids.keys()
    assert np.stack(list(painted.values())).sum(0).max() == 1, "no pixel is in two regions"
    assert all(at(painted[label], *middle(truth, label)) for label in ids)


def test_a_mask_takes_the_place_of_a_guess_that_it_covers(demo: Demo, studio: Studio, tmp_path: Path) -> None:
    xml = label_config_of("lip")
    _, task, truth = open_person(demo, studio, tmp_path, "A guess is wrong", xml, (HEIGHT, WIDTH))
    x, y = middle(truth, "Upper-clothes")
    guess = np.zeros((HEIGHT, WIDTH), bool)
    row, column = int((y + 0.01) * HEIGHT), int(x * WIDTH)
    guess[row : row + 30, column : column + 20] = True
    region = mask_region(guess, "Scarf", 0.3, LabelConfig.parse(xml)) | {"origin": "prediction"}
    demo.client.create_annotation(task, [region])
    studio.page.reload()
    studio.page.wait_for_timeout(2000)
    studio.auto_annotate()
    studio.pick("Upper-clothes")
    answer = answered(studio.click(x, y))
    assert (mask_of(answer) & guess).sum() == guess.sum()
    assert answer["id"] == region["id"]
    studio.accept()
    studio.shot("s7-a-guess-gave-its-place")
    assert [(r["id"], r["labels"]) for r in studio.regions] == [(region["id"], ["Upper-clothes"])]
