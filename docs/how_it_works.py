"""Draws the pictures of how-it-works.md: python docs/how_it_works.py"""

from __future__ import annotations

from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch, Rectangle

from ihp_backend.clicks import Click
from ihp_backend.data.synthetic import draw_person
from ihp_backend.inference.overlay import draw_overlay
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.click_maps import Point, localization_maps

IMAGES = Path(__file__).parent / "images"
BLUE, GREY, GREEN = "#2a6fbb", "#555555", "#2e8b57"


def steps(path: Path) -> None:
    """A click on its way: photo, view with localization maps, probabilities, masks."""
    person, _ = draw_person(np.random.default_rng(1), 480, 320)
    wall = np.full((640, 520, 3), (214, 208, 196), np.uint8)
    wall[120:600, 100:420] = person
    photo = cv2.GaussianBlur(wall, (0, 0), 0.7).astype(np.uint8)
    clicks = [Click(260, 185, "face"), Click(260, 300, "upper-clothes"), Click(243, 470, "pants")]
    predictor = Predictor.load("lip", device="cpu")
    names = predictor.schema.names
    parse = predictor.parse(photo, clicks)
    view, colours = parse.view, {name: predictor.schema.colours[i] for i, name in enumerate(names)}
    crop = view.crop(photo)
    points = [Point(*view.into(c.x, c.y), names.index(c.part)) for c in clicks]
    maps = localization_maps(points, predictor.config.channels, view.height, view.width)

    plots = plt.figure(figsize=(11, 3.4), dpi=100).subplots(1, 4, width_ratios=(1.5, 1, 1, 1.5))
    plots[0].imshow(photo)
    box = view.box
    plots[0].add_patch(Rectangle((box.left, box.top), box.width, box.height, fill=False, color=BLUE, lw=2))
    for click in clicks:
        plots[0].plot(click.x, click.y, "o", mfc="none", mec="white", ms=9, mew=2)
    tinted = crop.astype(np.float32) * 0.45
    for click, point in zip(clicks, points, strict=True):
        tinted += maps[point.channel][..., None] * np.array(colours[click.part], np.float32) * 1.6
    plots[1].imshow(tinted.clip(0, 255).astype(np.uint8))
    palette = np.zeros((len(parse.logits), 3), np.uint8)
    palette[: len(names)] = [colours[name] for name in names]
    plots[2].imshow(palette[parse.logits.argmax(0)], interpolation="nearest")
    masks = {click.part: parse.mask(click.part) for click in clicks}
    plots[3].imshow(draw_overlay(photo, masks, colours, clicks, names=False))
    titles = ("photo, clicks, the person", "one map for each part", "the network's parse", "the clicked masks")
    for number, (plot, title) in enumerate(zip(plots, titles, strict=True)):
        plot.set_title(f"{number + 1}  {title}", fontsize=10)
        plot.set_axis_off()
    plt.tight_layout()
    plt.savefig(path)


def rooms(path: Path) -> None:
    """What runs where."""
    axes = plt.figure(figsize=(9, 3.4), dpi=100).add_axes((0, 0, 1, 1), xlim=(0, 9), ylim=(0, 3.4))
    axes.set_axis_off()

    def box(x: float, y: float, width: float, text: str, colour: str) -> None:
        axes.add_patch(FancyBboxPatch((x, y), width, 0.8, "round,pad=0.05", fc="white", ec=colour, lw=2))
        axes.text(x + width / 2, y + 0.4, text, ha="center", va="center", fontsize=9)

    def arrow(start: tuple[float, float], end: tuple[float, float], text: str, at: tuple[float, float]) -> None:
        axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": GREY, "lw": 1.5})
        axes.text(*at, text, ha="center", va="center", fontsize=8, color=GREY)

    box(0.2, 2.2, 1.3, "browser\nof the annotator", GREY)
    box(2.9, 2.2, 1.5, "Label Studio\nphotos, annotations", GREY)
    box(6.5, 2.2, 2.2, "ihp serve\nmodel, caches; keeps no state", BLUE)
    box(2.9, 0.1, 1.5, "ihp trainer", BLUE)
    box(4.95, 1.0, 1.75, "IHP_DATA_DIR\nversions of each project", GREEN)
    box(7.5, 0.1, 1.2, "queue\na file, or Redis", GREEN)
    arrow((1.55, 2.6), (2.8, 2.6), "click", (2.15, 2.75))
    arrow((4.45, 2.88), (6.4, 2.88), "/predict: clicks, drafts", (5.4, 3.01))
    arrow((6.4, 2.58), (4.45, 2.58), "masks; asks for the photo", (5.4, 2.71))
    arrow((4.45, 2.28), (6.4, 2.28), "/webhook: annotated", (5.4, 2.41))
    arrow((8.4, 2.12), (8.4, 1.0), "trainings", (8.05, 1.55))
    arrow((7.42, 0.4), (4.5, 0.4), "", (6, 0.5))
    arrow((4.48, 0.75), (4.9, 1.1), "", (4.6, 0.8))
    arrow((6.75, 1.75), (7.0, 2.12), "a better version", (6.2, 1.98))
    arrow((3.65, 2.12), (3.65, 0.98), "annotations", (3.2, 1.55))
    plt.savefig(path)


if __name__ == "__main__":
    matplotlib.use("Agg")
    IMAGES.mkdir(exist_ok=True)
    steps(IMAGES / "steps.png")
    rooms(IMAGES / "rooms.png")
