"""Clicks for training: drawn from the truth, and driven by the network's errors.

Random sampling follows DISIR (Lenczner et al., 2020) and DynaMITe (Rana et al., ICCV 2023), error-driven clicks
RITM (Sofiiuk et al., 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.network.click_maps import Point
from ihp_backend.parts import IGNORE

_OBJECTS = 0.7
"""Share of the views with known objects in which open-class channels take objects, not parts."""


@dataclass(frozen=True)
class SamplingConfig:
    """How training clicks.

    Attributes:
        random_sampling: More clicks than the first one, anywhere in the part.
        drop_all: Probability of no click at all: parsing without clicks is learnt, too.
        some_parts: Probability that only some of the parts are clicked.
        more_clicks: Each further click of a part comes with this probability, up to 5.
        error_rounds: At most so many rounds of clicks into the network's errors.
        negative: Probability of an error click being "not this part" instead of the right part.
        open_classes: Probability that some parts' clicks go to open-class channels instead of their own.
        merged: Probability that such a channel stands for two parts at once: labels are not cut as the schema is.
    """

    random_sampling: bool = True
    drop_all: float = 0.45
    some_parts: float = 0.3
    more_clicks: float = 0.4
    error_rounds: int = 3
    negative: float = 0.08
    open_classes: float = 0.25
    merged: float = 0.3

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Reads the fields of a JSON file, of an older release too.

        Raises:
            TypeError: If a field is unknown.
        """
        return cls(**{"open_classes" if name == "spare" else name: value for name, value in fields.items()})


def distance_inside(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance of each pixel of a mask (H, W) to the outside, the image's edge included, in pixels."""
    padded = np.pad(mask.view(np.uint8), 1)
    return cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]  # type: ignore[return-value]


def _pick(where: NDArray[np.bool_], rng: np.random.Generator) -> tuple[float, float] | None:
    ys, xs = np.nonzero(where)
    if not len(ys):
        return None
    i = int(rng.integers(len(ys)))
    return float(xs[i]) + 0.5, float(ys[i]) + 0.5


def first_clicks(labels: NDArray[np.uint8], rng: np.random.Generator, config: SamplingConfig) -> list[Point]:
    """Draws the clicks of the first round.

    Args:
        labels: (H, W) uint8 channel of each pixel; 255 is ignored.
        rng: Source of randomness.
        config: How.

    Returns:
        For each clicked part one click in its inner half (distance > max / 1.7), and maybe more anywhere in it.
    """
    if rng.random() < config.drop_all:
        return []
    parts = [int(i) for i in np.unique(labels) if i != IGNORE]
    chance = 1.0 if rng.random() > config.some_parts else rng.random()
    points = []
    for part in parts:
        share = chance if part else 0.15 * chance  # people click parts; the background when it is wrong
        if rng.random() > share:
            continue
        distance = distance_inside(labels == part)
        peak = float(distance.max())
        if peak < 1.5 and rng.random() < 0.5:  # slivers at the crop's edge are rarely clicked
            continue
        if spot := _pick(distance > peak / 1.7, rng):
            points.append(Point(*spot, part))
        if config.random_sampling:
            for _ in range(5):
                if rng.random() > config.more_clicks:
                    break
                if spot := _pick(distance > min(1.0, peak / 1.7), rng):
                    points.append(Point(*spot, part))
    return points


def error_clicks(
    predicted: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    count: int,
    rng: np.random.Generator,
    config: SamplingConfig,
    *,
    scale: float = 1.0,
) -> list[Point]:
    """Clicks into the largest errors, one after the other, each named with the true part there.

    Args:
        predicted: (h, w) uint8 channels that the network says.
        labels: (h, w) uint8 true channels; 255 is ignored.
        count: How many clicks at most.
        rng: Source of randomness.
        config: Gives the share of negative clicks.
        scale: Factor from these pixels to those of the clicks.
    """
    wrong = (predicted != labels) & (labels != IGNORE)
    distance = distance_inside(wrong)
    points = []
    for _ in range(count):
        peak = float(distance.max())
        if peak < 1.0:
            break
        spot = np.nonzero(distance >= max(peak * 0.7, 1.0)) if rng.random() < 0.5 else np.nonzero(distance == peak)
        pick = int(rng.integers(len(spot[0])))
        row, column = int(spot[0][pick]), int(spot[1][pick])
        negative = predicted[row, column] != 0 and rng.random() < config.negative
        channel = int(predicted[row, column] if negative else labels[row, column])
        jitter = rng.random(2)
        points.append(Point((column + jitter[0]) * scale, (row + jitter[1]) * scale, channel, is_positive=not negative))
        around = max(peak, 3.0) * 1.5
        cv2.circle(distance, (column, row), round(around), 0, thickness=-1)
    return points


def sample_open_classes(
    labels: NDArray[np.uint8],
    parts: int,
    open_channels: int,
    rng: np.random.Generator,
    config: SamplingConfig,
    objects: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Moves some parts or objects to open-class channels, so that the network learns what only clicks define.

    Args:
        labels: (H, W) uint8 ids; 255 is ignored.
        parts: Size of the schema; the open-class channels follow it.
        open_channels: Number of open-class channels.
        rng: Source of randomness.
        config: Gives the probability.
        objects: (H, W) uint8 ids of things of any size, 0 for none; where they are known, mostly they are taken.

    Returns:
        The labels, or a copy in which one to three open-class channels have each taken a part or object, or two.
    """
    if not open_channels or rng.random() > config.open_classes:
        return labels
    things = labels if objects is None or rng.random() > _OBJECTS else objects
    present = [int(i) for i in np.unique(things) if i not in (0, IGNORE)]
    rng.shuffle(present)
    channels = rng.permutation(open_channels)[: min(open_channels, 1 + int(rng.integers(3)))]
    out = labels.copy()
    for channel in channels:
        for _ in range(2 if rng.random() < config.merged else 1):
            if present:
                out[things == present.pop()] = parts + int(channel)
    return out
