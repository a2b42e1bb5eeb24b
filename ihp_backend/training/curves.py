"""The curves of a training run."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path


def draw_curves(log: Path, path: Path) -> None:
    """Draws losses and validation figures of a log.csv (step, name, value) as a picture."""
    from matplotlib.figure import Figure

    series: dict[str, list[tuple[int, float]]] = defaultdict(list)
    with log.open(newline="") as file:
        for step, name, value in csv.reader(file):
            series[name].append((int(step), float(value)))
    figure = Figure(figsize=(9, 3.6), dpi=130)
    losses, scores = figure.subplots(1, 2)
    for name, points in series.items():
        if name in ("seconds", "score"):
            continue
        (scores if name.startswith("miou") else losses).plot(
            *zip(*points, strict=True), label=name, marker="o" if name.startswith("miou") else None, markersize=3
        )
    losses.set(xlabel="step", ylabel="loss", yscale="log")
    scores.set(xlabel="step", ylabel="mIoU on validation photos", ylim=(0, 1))
    for axes in (losses, scores):
        if axes.lines:
            axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
