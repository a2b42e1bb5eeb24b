"""The real Label Studio in a real browser, as an annotator has it before them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from label_studio_sdk.converter import brush
from numpy.typing import NDArray
from playwright.sync_api import Page, Response

_IMAGE = """
() => {
  const images = [...Htx.annotationStore.selected.names.values()].filter(name => name.type === "image");
  const image = images.find(image => image.stageRef?.content?.isConnected) ?? images[0];  // a page of several
  const box = (image.stageRef?.content ?? document.querySelector(".konvajs-content")).getBoundingClientRect();
  return {
    left: box.x + image.zoomingPositionX, top: box.y + image.zoomingPositionY,
    width: image.stageWidth * image.zoomScale, height: image.stageHeight * image.zoomScale,
  };
}
"""
_REGIONS = """
() => Htx.annotationStore.selected.regions.map(r => ({id: r.cleanId, type: r.type, labels: [...(r.labels || [])]}))
"""
_SUGGESTIONS = """
() => [...Htx.annotationStore.selected.suggestions.values()].map(
  r => ({id: r.cleanId, type: r.type, labels: [...(r.labels || [])], score: r.score}))
"""


class Studio:
    """A page of Label Studio on which somebody is logged in."""

    def __init__(self, page: Page, url: str, shots: Path) -> None:
        self.page, self.url, self.shots = page, url, shots

    def log_in(self, user: str, password: str) -> None:
        self.page.goto(self.url)
        self.page.fill("input[name=email]", user)
        self.page.fill("input[name=password]", password)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("input[name=email]", state="detached")

    def open(self, project: int, task: int) -> None:
        self.page.goto(f"{self.url}/projects/{project}/data?task={task}")
        self.page.wait_for_selector(".konvajs-content canvas")
        self.page.wait_for_function("() => window.Htx && Htx.annotationStore.selected")
        self.page.wait_for_function(
            "() => [...Htx.annotationStore.selected.names.values()].some(n => n.type === 'image' && n.stageWidth > 1)"
        )
        self.page.wait_for_timeout(1000)

    def auto_annotate(self) -> None:
        """Switches Auto-Annotation on and picks the keypoint tool with the wand."""
        toggle = self.page.get_by_test_id("bottombar-auto-annotation-toggle")
        if not toggle.is_checked():
            toggle.click(force=True)
        self.page.locator(".lsf-toolbar > .lsf-toolbar__group:last-child > button.lsf-tool_smart").click()

    def auto_accept(self, on: bool) -> None:
        toggle = self.page.get_by_test_id("bottombar-auto-accept-toggle")
        if toggle.is_checked() != on:
            toggle.click(force=True)

    def next_smart_tool(self) -> None:
        """Goes from the wand's keypoints to its rectangle, and on to what other tools it has."""
        self.page.locator(".lsf-toolbar > .lsf-toolbar__group:last-child > button.lsf-tool_smart").click()

    def pick(self, label: str, control: int = 0) -> None:
        """Picks a label of the first, or a later, control; a second click on a picked one would put it away."""
        self.page.locator(".lsf-label").filter(has_text=label).nth(control).click()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> dict[str, Any]:
        """Draws with the mouse from one place to another, shares of width and height; returns the backend's answer."""
        box = self.page.evaluate(_IMAGE)
        with self.page.expect_response(_is_interactive, timeout=60_000) as waiting:
            for (x, y), press in ((start, self.page.mouse.down), (end, self.page.mouse.up)):
                self.page.mouse.move(box["left"] + x * box["width"], box["top"] + y * box["height"], steps=5)
                press()
        answer: dict[str, Any] = waiting.value.json()
        self.page.wait_for_timeout(700)
        return answer

    def click(self, x: float, y: float, *, negative: bool = False, inside: bool = False) -> dict[str, Any]:
        """Clicks on the photo, at shares of its width and height; returns what came back from the backend.

        ``inside`` holds Ctrl, without which a click inside an accepted mask selects it.
        """
        box = self.page.evaluate(_IMAGE)
        place = box["left"] + x * box["width"], box["top"] + y * box["height"]
        with self.page.expect_response(_is_interactive, timeout=60_000) as waiting:
            keys = [key for key, held in (("Control", inside), ("Alt", negative)) if held]
            for key in keys:
                self.page.keyboard.down(key)
            self.page.mouse.click(*place)
            for key in keys:
                self.page.keyboard.up(key)
        answer: dict[str, Any] = waiting.value.json()
        self.page.wait_for_timeout(700)
        return answer

    def click_in_vain(self, x: float, y: float) -> None:
        """Clicks on the photo, at shares of its width and height, where nothing is expected to come of it."""
        box = self.page.evaluate(_IMAGE)
        self.page.mouse.click(box["left"] + x * box["width"], box["top"] + y * box["height"])

    def wait_until_selected(self, regions: int) -> None:
        """Waits until so many regions are selected."""
        self.page.wait_for_function("n => Htx.annotationStore.selected.selectedRegions.length === n", arg=regions)

    def click_in_a_hurry(self, parts: Sequence[tuple[str, float, float]], pace_s: float) -> None:
        """Presses each key and clicks at once, at a pace of so many seconds, waiting for no mask; then for the last."""
        box = self.page.evaluate(_IMAGE)
        started = time.monotonic()
        for number, (key, x, y) in enumerate(parts, 1):
            self.page.keyboard.press(key)
            self.page.mouse.click(box["left"] + x * box["width"], box["top"] + y * box["height"])
            self.page.wait_for_timeout(1000 * max(0.0, number * pace_s - (time.monotonic() - started)))
        self.page.wait_for_function("() => !Htx.awaitingSuggestions", timeout=60_000)
        self.page.wait_for_timeout(1000)

    def wait_until_saved(self, regions: int) -> None:
        """Waits until Label Studio has saved so many regions as the draft, which it does every few seconds."""
        self.page.wait_for_function(
            "count => { const a = Htx.annotationStore.selected;"
            " const saved = new Set((a.versions.draft || []).map(r => r.id));"
            " return a.regions.length === count && a.regions.every(r => saved.has(r.cleanId)) && !a.isDraftSaving }",
            arg=regions,
        )
        self.page.wait_for_timeout(300)

    def accept(self) -> None:
        self.page.get_by_test_id("bottombar-accept-suggestions-button").click()
        self.page.wait_for_timeout(500)

    def reject(self) -> None:
        self.page.get_by_test_id("bottombar-reject-suggestions-button").click()
        self.page.wait_for_timeout(500)

    def submit(self) -> None:
        with self.page.expect_response(lambda r: "/annotations" in r.url and r.request.method in ("POST", "PATCH")):
            self.page.get_by_test_id("bottombar-submit-button").click()
        self.page.wait_for_timeout(500)

    def start_training(self, project: int) -> None:
        """Presses Start Training in the project's model settings, and confirms it."""
        self.page.goto(f"{self.url}/projects/{project}/settings/ml")
        self.page.get_by_label("Machine learning model options").click()
        self.page.get_by_text("Start Training", exact=True).click()
        with self.page.expect_response(lambda r: r.url.endswith("/train") and r.request.method == "POST"):
            self.page.get_by_role("button", name="Start Training", exact=True).click()

    def press(self, keys: str) -> None:
        self.page.keyboard.press(keys)
        self.page.wait_for_timeout(400)

    @property
    def regions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.page.evaluate(_REGIONS)
        return found

    @property
    def suggestions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.page.evaluate(_SUGGESTIONS)
        return found

    def shot(self, name: str) -> None:
        self.shots.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(self.shots / f"{name}.png"))


def _is_interactive(response: Response) -> bool:
    return "/interactive-annotating" in response.url


def mask_of(region: dict[str, Any]) -> NDArray[np.bool_]:
    """Decodes a region with the SDK's own decoder."""
    alpha = brush.decode_rle(region["value"]["rle"]).reshape(region["original_height"], region["original_width"], 4)
    return np.asarray(alpha[..., 3] > 0)


def answered(answer: dict[str, Any]) -> dict[str, Any]:
    """The clicked label's region in what the backend answered: the first. What may still be open comes after it."""
    found: list[dict[str, Any]] = answer["data"]["result"]
    region, *_ = found
    return region
