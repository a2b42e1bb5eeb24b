"""What an evaluation leaves behind: metrics.json, curve.png, per_class.csv, failures.png."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.data.sample import DataSet
from ihp_backend.evaluation.metrics import budget_at, class_iou, mean_iou, rank_correlation
from ihp_backend.evaluation.protocol import TARGETS, Evaluation, PhotoResult, ProtocolConfig, class_ids, labels_of
from ihp_backend.files import write_together
from ihp_backend.inference.overlay import draw_overlay
from ihp_backend.inference.predictor import Predictor
from ihp_backend.parts import IGNORE

_REPORTED = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0)
_WORST = 8
_NOTABLE = 0.005
"""A loss of IoU that somebody may see."""


def summarise(result: Evaluation, predictor: Predictor, config: ProtocolConfig, command: str = "") -> dict[str, Any]:
    """Returns the content of metrics.json."""
    clicked = [b for b in result.confusions if b > 0]
    curve = [mean_iou(result.confusions[b]) for b in clicked]
    names = result.schema.names
    automatic = mean_iou(result.confusions[0.0])
    at_two = class_iou(result.confusions[2.0]) if 2.0 in result.confusions else np.full(len(names), np.nan)
    return {
        "images": len(result.photos),
        "classes": list(names),
        "user": config.user,
        "miou_at_clicks_per_class": {
            f"{b:g}": round(mean_iou(result.confusions[b]), 5) for b in _REPORTED if b in result.confusions
        },
        "guesses_without_a_click": {
            "suggested": len(result.guesses),
            "half_of_it_right": sum(share >= 0.5 for share in result.guesses),
            "less_than_a_third_right": sum(share < 1 / 3 for share in result.guesses),
        },
        "presence_only_miou": round(mean_iou(result.presence_only), 5),
        "clicks_per_class_at_miou": {
            f"{t:.2f}": 0.0 if automatic >= t else _rounded(budget_at(t, clicked, curve)) for t in TARGETS
        },
        "noc_per_image": {f"{t:.2f}": _noc(result.photos, t, config.max_clicks) for t in TARGETS},
        "per_class_iou_at_2": {
            name: _rounded(float(iou) if np.isfinite(iou) else None) for name, iou in zip(names, at_two, strict=True)
        },
        "share_of_clicks_that_lower_their_part": _rounded(result.lowered()),
        "share_of_clicks_that_lower_their_part_by_0.005": _rounded(result.lowered(_NOTABLE)),
        "the_same_up_to_3_clicks_per_class": [
            _rounded(result.lowered(up_to=3)),
            _rounded(result.lowered(_NOTABLE, up_to=3)),
        ],
        "rank_correlation_of_score_and_iou": _rounded(_score_correlation(result.photos)),
        "seconds_per_click_median": round(float(np.median(result.seconds_per_click or [0])), 4),
        "weights": predictor.version,
        "protocol": {
            "max_clicks_per_class": config.max_clicks,
            "seed": config.seed,
            "previous_round_shown": config.previous,
            "people": "everyone" if config.everyone else "one",
            "miou": "one confusion matrix over all photos, classes that occur, background included, 255 ignored",
            "clicks_per_class": "clicks so far / parts present, background not counted",
            "clicks_per_class_at_miou": "smallest mean budget at which the mIoU of all photos crosses, interpolated; "
            "beyond 5, photos that have crossed every target are not clicked any further",
            "noc_per_image": "clicks per class until the photo's own mIoU crosses, failures at the cap",
            "command": command,
        },
    }


def write_report(
    result: Evaluation,
    data: DataSet,
    predictor: Predictor,
    config: ProtocolConfig,
    out: Path,
    *,
    command: str = "",
) -> dict[str, Any]:
    """Writes the four files into a folder, all or none, and returns the content of metrics.json.

    Raises:
        OSError: If they cannot be written; an earlier report is untouched then.
    """
    metrics = summarise(result, predictor, config, command)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["class", *(f"{b:g}" for b in result.confusions)])
    columns = [class_iou(matrix) for matrix in result.confusions.values()]
    for i, name in enumerate(result.schema.names):
        writer.writerow([name, *(f"{c[i]:.4f}" if np.isfinite(c[i]) else "" for c in columns)])
    files = {
        "metrics.json": (json.dumps(metrics, indent=1) + "\n").encode(),
        "per_class.csv": table.getvalue().encode(),
        "curve.png": _draw_curve(result),
        "failures.png": draw_failures(result, data, predictor, config),
    }
    write_together(out, files)
    return metrics


def summary(metrics: dict[str, Any]) -> str:
    """The figures that one looks at first, as a few lines of text."""
    at = ", ".join(f"{v:.3f} at {k}" for k, v in metrics["miou_at_clicks_per_class"].items())
    needed = ", ".join(
        f"{t}: {'never' if v is None else f'{v:.2f}'}" for t, v in metrics["clicks_per_class_at_miou"].items()
    )
    return (
        f"mIoU by clicks per class: {at}\npresence only: {metrics['presence_only_miou']:.3f}\n"
        f"clicks per class to reach mIoU: {needed}\n"
        f"rank correlation of a prediction's score with its mIoU: {metrics['rank_correlation_of_score_and_iou']}"
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _noc(photos: list[PhotoResult], target: float, cap: float) -> dict[str, float | int]:
    needed = [photo.reached[target] for photo in photos]
    return {
        "mean": round(float(np.mean([cap if n is None else n for n in needed])), 4),
        "failures": sum(n is None for n in needed),
    }


def _score_correlation(photos: list[PhotoResult]) -> float | None:
    """Of the photos' prediction scores without clicks and their true mIoU; ``None`` where it cannot be told."""
    found = rank_correlation([photo.score for photo in photos], [photo.ious[0] for photo in photos])
    return found if np.isfinite(found) else None


def _draw_curve(result: Evaluation) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=130)
    axes = figure.subplots()
    budgets = list(result.confusions)
    axes.plot(budgets, [mean_iou(m) for m in result.confusions.values()], marker="o", markersize=3)
    axes.axhline(mean_iou(result.presence_only), linestyle=":", color="grey")
    axes.annotate("presence only", (0, mean_iou(result.presence_only)), fontsize=8, color="grey", va="bottom")
    for target in TARGETS:
        axes.axhline(target, linewidth=0.5, color="lightgrey", zorder=0)
    axes.set(xlabel="clicks per class", ylabel="mIoU, background included", ylim=(0, 1), xlim=(0, max(budgets)))
    figure.tight_layout()
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def draw_failures(result: Evaluation, data: DataSet, predictor: Predictor, config: ProtocolConfig) -> bytes:
    """The photos with the lowest mIoU at 2 clicks per class: prediction beside truth, clicks drawn in."""

    def at_two(photo: PhotoResult) -> int:
        return min(len(photo.ious) - 1, 1 + max(0, 2 * photo.classes - photo.first_round))

    ranked = sorted(range(len(result.photos)), key=lambda i: result.photos[i].ious[at_two(result.photos[i])])
    tiles = []
    names = data.schema.names
    colours = dict(zip(names, data.schema.colours, strict=True))
    for i in ranked[:_WORST]:
        photo, sample = result.photos[i], data[i]
        clicks = photo.clicks[: photo.first_round + at_two(photo) - 1]
        asked: dict[str, Any] = {
            "labels": labels_of(data.schema, predictor),
            "key": sample.name,
            "everyone": config.everyone,
        }
        parse = predictor.parse(sample.image, clicks[: photo.first_round], **asked)
        for count in range(photo.first_round + 1, len(clicks) + 1):  # as in the protocol
            parse = predictor.parse(sample.image, clicks[:count], previous=parse if config.previous else None, **asked)
        predicted = class_ids(parse, data.schema)
        pair = [
            draw_overlay(
                sample.image,
                {names[c]: ids == c for c in np.unique(ids) if c not in (0, IGNORE)},
                colours,
                drawn,
            )
            for ids, drawn in ((predicted, clicks), (sample.labels, ()))
        ]
        tile: NDArray[Any] = np.concatenate(pair, axis=1)
        tile = cv2.resize(tile, (round(tile.shape[1] * 700 / tile.shape[0]), 700), interpolation=cv2.INTER_AREA)
        text = f"{photo.name}: mIoU {photo.ious[at_two(photo)]:.2f}"
        cv2.putText(tile, text, (10, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 4, cv2.LINE_AA)
        cv2.putText(tile, text, (10, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 1, cv2.LINE_AA)
        tiles.append(tile)
    widest = max(tile.shape[1] for tile in tiles)
    padded = [cv2.copyMakeBorder(t, 4, 4, 4, widest - t.shape[1] + 4, cv2.BORDER_CONSTANT) for t in tiles]
    if len(padded) % 2:
        padded.append(np.zeros_like(padded[0]))
    rows = [np.concatenate(padded[i : i + 2], axis=1) for i in range(0, len(padded), 2)]
    return cv2.imencode(".png", np.concatenate(rows)[..., ::-1])[1].tobytes()
