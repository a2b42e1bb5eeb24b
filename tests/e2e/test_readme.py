"""The README's "How to click", followed to the letter: with mouse and keys, as somebody does who reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Locator
from running_demo import Demo, new_project
from studio import Studio, answered, mask_of
from waiting import eventually

from ihp_backend.data.synthetic import draw_person
from ihp_backend.demo.project import label_config_of
from ihp_backend.parts import LIP

pytestmark = pytest.mark.e2e

HEIGHT, WIDTH = 900, 600
PERSON = 14
"""The drawn person of this seed has a shirt that runs over the trousers, at one click."""
SHIRT, TROUSERS, FACE = (0.5, 0.33), (0.5, 0.533), (0.5, 0.143)
WALL = (0.08, 0.2)
_PICKED = """
() => [...Htx.annotationStore.selected.names.values()].filter(tag => tag.type === "keypointlabels")
  .flatMap(tag => tag.selectedValues())
"""
_KEYPOINTS = "() => Htx.annotationStore.selected.regions.filter(r => r.type === 'keypointregion').length"


def part_of(name: str) -> NDArray[np.bool_]:
    return np.equal(draw_person(np.random.default_rng(PERSON), HEIGHT, WIDTH)[1], LIP.names.index(name))


def new_photos(demo: Demo, folder: Path, title: str, count: int = 1) -> tuple[int, list[int]]:
    """A project with the drawn person, so many times; returns its number and the tasks'."""
    image, _ = draw_person(np.random.default_rng(PERSON), HEIGHT, WIDTH)
    files = [folder / f"person-{n}.png" for n in range(count)]
    for file in files:
        cv2.imwrite(str(file), image[..., ::-1])
    project = new_project(demo, title, label_config_of("lip"))
    demo.client.import_files(project, files)
    return project, [int(task["id"]) for task in demo.client.list_tasks(project)]


def wand(studio: Studio) -> Locator:
    return studio.page.locator(".lsf-toolbar > .lsf-toolbar__group:last-child > button.lsf-tool_smart")


def picked(studio: Studio) -> list[str]:
    found: list[str] = studio.page.evaluate(_PICKED)
    return found


def key(studio: Studio, letter: str, label: str) -> None:
    studio.page.keyboard.press(letter)
    studio.page.wait_for_function(f"label => ({_PICKED})().includes(label)", arg=label)


def begin(studio: Studio) -> None:
    """Step 1."""
    studio.page.get_by_text("Auto-Annotation", exact=True).click()
    studio.page.wait_for_function("() => Htx.autoAnnotation")
    wand(studio).click()


def labels(regions: list[dict[str, Any]]) -> list[str]:
    return sorted(label for region in regions for label in region["labels"])


def test_how_to_click(demo: Demo, studio: Studio, tmp_path: Path) -> None:
    project, (task, following) = new_photos(demo, tmp_path, "How to click", 2)
    asked: list[str] = []
    studio.page.on("request", lambda r: asked.append(r.url) if "/interactive-annotating" in r.url else None)
    studio.open(project, task)

    # With Auto-Annotation off, a click does nothing: neither with a label, nor without.
    studio.click_in_vain(*FACE)
    key(studio, "1", "Face")
    studio.click_in_vain(*FACE)
    assert (studio.regions, asked) == ([], [])
    studio.page.keyboard.press("1")  # puts it away
    studio.page.wait_for_function(f"() => !({_PICKED})().length")

    # 1. The switch keeps the keyboard until the wand is clicked.
    studio.page.get_by_text("Auto-Annotation", exact=True).click()
    studio.page.wait_for_function("() => Htx.autoAnnotation")
    studio.page.keyboard.press("1")
    assert picked(studio) == []
    wand(studio).click()
    studio.click_in_vain(*FACE)
    assert (studio.regions, asked) == ([], []), "without a label a click does nothing"

    # 2. Key, click.
    key(studio, "1", "Face")
    studio.click(*FACE)
    assert labels(studio.suggestions) == ["Face"]
    assert picked(studio) == [], "the label is put away after each click"

    # 3. It does not belong: key, Alt+click, before it is accepted. Then the tick.
    key(studio, "5", "Upper-clothes")
    studio.click(*SHIRT)
    key(studio, "5", "Upper-clothes")
    corrected = answered(studio.click(*TROUSERS, negative=True))
    assert not mask_of(corrected)[int(TROUSERS[1] * HEIGHT), int(TROUSERS[0] * WIDTH)]
    assert labels(studio.suggestions) == ["Face", "Upper-clothes"]
    studio.accept()
    assert labels(studio.regions) == ["Face", "Upper-clothes"]

    # 4. The next label. Auto-Accept is a switch, too: the wand gives the keyboard back.
    studio.page.get_by_text("Auto-Accept Suggestions", exact=True).click()
    wand(studio).click()
    key(studio, "9", "Pants")
    studio.click(0.42, 0.66)
    assert labels(studio.regions) == ["Face", "Pants", "Upper-clothes"]
    assert studio.suggestions == []

    # 5. A click inside an accepted mask selects it, and a selected mask swallows clicks until Esc.
    requests = len(asked)
    key(studio, "1", "Face")
    studio.click_in_vain(*FACE)
    studio.wait_until_selected(1)
    studio.page.keyboard.press("2")
    studio.click_in_vain(*WALL)
    assert len(asked) == requests
    studio.page.keyboard.press("Escape")
    studio.wait_until_selected(0)
    key(studio, "1", "Face")
    studio.click(*FACE, negative=True, inside=True)  # Ctrl+Alt
    assert len(asked) == requests + 1

    # 6. Submit.
    with studio.page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST"):
        studio.page.keyboard.press("Control+Enter")
    (annotation,) = demo.client.annotations(task)
    assert {r["value"]["brushlabels"][0] for r in annotation["result"]} == {"Face", "Pants", "Upper-clothes"}

    # On the next photo the switch and the wand are as they were.
    studio.open(project, following)
    key(studio, "5", "Upper-clothes")
    studio.click(*SHIRT)
    assert labels(studio.regions) == ["Upper-clothes"]


@pytest.mark.parametrize("is_accepted", [False, True])
def test_the_first_alt_click_takes_the_wrong_piece(
    demo: Demo, studio: Studio, tmp_path: Path, is_accepted: bool
) -> None:
    project, (task,) = new_photos(demo, tmp_path, f"A wrong piece {is_accepted}")
    studio.open(project, task)
    begin(studio)
    key(studio, "5", "Upper-clothes")
    first = answered(studio.click(*SHIRT))
    before = mask_of(first)
    wrong = before & part_of("pants")
    assert wrong.sum() > 0.1 * before.sum()
    if is_accepted:
        studio.accept()
        studio.wait_until_saved(1)
    key(studio, "5", "Upper-clothes")
    second = answered(studio.click(*TROUSERS, negative=True, inside=is_accepted))
    studio.shot(f"r-wrong-piece-{is_accepted}")
    after = mask_of(second)
    assert (after & wrong).sum() < 0.1 * wrong.sum()
    assert (after & before & part_of("upper-clothes")).sum() > 0.9 * (before & part_of("upper-clothes")).sum()
    studio.accept()
    assert labels(studio.regions) == ["Upper-clothes"]
    if is_accepted:
        assert second["id"] == first["id"]


def test_points_that_a_reload_left_behind_go_with_the_next_masks(demo: Demo, studio: Studio, tmp_path: Path) -> None:
    project, (task,) = new_photos(demo, tmp_path, "Left behind")
    studio.open(project, task)
    begin(studio)
    key(studio, "1", "Face")
    studio.click(*FACE)
    key(studio, "1", "Face")
    studio.click(*WALL, negative=True)
    studio.wait_until_saved(2)
    studio.open(project, task)  # the mask is gone, its points are there
    assert (studio.page.evaluate(_KEYPOINTS), studio.suggestions) == (2, [])

    key(studio, "5", "Upper-clothes")
    studio.click(*SHIRT)
    studio.accept()
    studio.wait_until_saved(len(studio.regions))
    key(studio, "9", "Pants")
    studio.click(0.42, 0.66)
    studio.accept()
    assert studio.page.evaluate(_KEYPOINTS) == 0
    assert labels(studio.regions) == ["Face", "Pants", "Upper-clothes"]

    # Undone once, the masks go; twice, the point of the last click as well.
    studio.press("Control+z")
    assert "Pants" not in labels([r for r in studio.regions if r["type"] == "brushregion"])
    studio.press("Control+z")
    assert "Pants" not in labels(studio.regions)
    studio.press("Control+Shift+z")
    studio.press("Control+Shift+z")
    assert studio.page.evaluate(_KEYPOINTS) == 0
    assert labels(studio.regions) == ["Face", "Pants", "Upper-clothes"]
    studio.submit()
    (annotation,) = demo.client.annotations(task)
    assert {r["type"] for r in annotation["result"]} == {"brushlabels"}


def test_all_parts_at_once(demo: Demo, studio: Studio, tmp_path: Path) -> None:
    project, tasks = new_photos(demo, tmp_path, "All parts at once", 2)
    studio.page.goto(f"{studio.url}/projects/{project}/data")
    studio.page.get_by_text("Actions", exact=True).wait_for(timeout=60_000)
    ticks = studio.page.locator("input[type=checkbox]")
    ticks.nth(2).wait_for(state="attached", timeout=60_000)
    ticks.first.click(force=True)  # the one that ticks all
    studio.page.get_by_text("2 Tasks", exact=True).click()
    studio.page.get_by_text("Retrieve Predictions", exact=True).click()
    studio.page.get_by_text("OK", exact=True).click()
    for task in tasks:
        eventually(lambda task=task: bool(demo.client.predictions(task)), 120)  # type: ignore[misc]
        (prediction,) = demo.client.predictions(task)
        scores = [region["score"] for region in prediction["result"]]
        assert len(scores) >= 3
        assert len(set(scores)) > 1, "each mask has a score of its own"
