"""What a photo may look like in training: other crops, turns, sizes, mirror images, light and colours."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.data.sample import Sample
from ihp_backend.geometry import Box, box_of
from ihp_backend.parts import IGNORE, Schema

_TRANSPARENT = 8
"""Below this opacity nobody is there."""


def mirror(sample: Sample, schema: Schema) -> Sample:
    """Mirrors a sample and swaps what is left and right. What is unpaired, such as a left hand, is unknown."""
    swap = np.arange(256, dtype=np.uint8)
    swap[: len(schema)] = schema.mirrored
    unpaired = [i for i, pair in enumerate(schema.mirrored) if pair == IGNORE]
    return replace(
        sample,
        image=np.ascontiguousarray(sample.image[:, ::-1]),
        labels=np.ascontiguousarray(swap[sample.labels[:, ::-1]]),
        alpha=None if sample.alpha is None else np.ascontiguousarray(sample.alpha[:, ::-1]),
        people=None if sample.people is None else np.ascontiguousarray(sample.people[:, ::-1]),
        objects=None if sample.objects is None else np.ascontiguousarray(sample.objects[:, ::-1]),
        unknown=(*(int(swap[i]) for i in sample.unknown if i not in unpaired), *unpaired),
    )


@dataclass(frozen=True)
class ViewConfig:
    """What part of a photo training sees.

    Attributes:
        detail: Share of the views that show a detail of the person.
        zoom: By how much a detail is larger than in a view of the person, at most.
        whole: Share of the views that show the whole photo.
        shrink: Such a view may be smaller than the photo fits, by a factor of exp(shrink) at most: small people.
        turn: Standard deviation of the angle by which views are turned, in degrees.
    """

    detail: float = 0.2
    zoom: float = 3.0
    whole: float = 0.15
    shrink: float = 0.35
    turn: float = 6.0


def random_view(
    sample: Sample, height: int, width: int, rng: np.random.Generator, config: ViewConfig | None = None
) -> Sample:
    """Looks at a sample as the predictor may: mostly the person, sometimes the whole photo or a detail.

    One affine map does it all: crop, turn, resize. Pixels outside the photo are black, ignored, and nobody's.

    Args:
        sample: The photo and its labels.
        height: Of the view, in pixels.
        width: Of the view, in pixels.
        rng: Source of randomness.
        config: Which views.
    """
    config = config or ViewConfig()
    rows, columns = sample.labels.shape
    person = box_of((sample.labels > 0) & (sample.labels != IGNORE)) or Box(0, 0, columns, rows)
    what = rng.random()
    if what < config.whole:  # the whole photo
        box = Box(0, 0, columns, rows)
        scale = min(height / box.height, width / box.width) * math.exp(rng.uniform(-config.shrink, 0.1))
        centre = np.array([columns / 2, rows / 2])
    else:
        box = person.grown(0.06, rows, columns)
        fit = min(height / box.height, width / box.width)
        centre = np.array([(box.left + box.right) / 2, (box.top + box.bottom) / 2])
        if what < config.whole + config.detail:  # a detail: around some pixel of the person
            ys, xs = np.nonzero(sample.labels[person.slices])
            pick = int(rng.integers(len(ys))) if len(ys) else 0
            target = np.array([xs[pick] + person.left, ys[pick] + person.top]) if len(ys) else centre
            larger = math.exp(rng.uniform(math.log(1.4), math.log(config.zoom)))
            scale = fit * larger
            centre = centre + (target - centre) * min(1.0, larger - 1)
        else:
            scale = fit * math.exp(rng.uniform(-0.3, 0.25))
            slack = 0.08 * np.array([box.width, box.height])
            centre = centre + rng.uniform(-slack, slack)
    angle = math.radians(float(np.clip(rng.normal(0, 1), -3.3, 3.3) * config.turn))
    stretch = math.exp(rng.uniform(-0.08, 0.08))
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    linear = np.array([[cos * stretch, -sin * stretch], [sin / stretch, cos / stretch]])
    # Half-pixel rule: cv2 maps indices, not continuous coordinates.
    shift = np.array([width / 2, height / 2]) - linear @ centre + linear @ [0.5, 0.5] - 0.5
    affine = np.column_stack((linear, shift))
    image: NDArray[Any] = sample.image
    if scale < 0.6:  # keep fine patterns from turning into noise
        image = cv2.GaussianBlur(image, (0, 0), 0.4 / scale)
    size = (width, height)

    def warped(values: NDArray[np.uint8] | None, flags: int) -> NDArray[np.uint8] | None:
        return None if values is None else cv2.warpAffine(values, affine, size, flags=flags)  # type: ignore[return-value]

    return replace(
        sample,
        alpha=warped(sample.alpha, cv2.INTER_LINEAR),
        people=warped(sample.people, cv2.INTER_NEAREST),
        objects=warped(sample.objects, cv2.INTER_NEAREST),
        image=cv2.warpAffine(image, affine, size, flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0)),  # type: ignore[arg-type]
        labels=cv2.warpAffine(sample.labels, affine, size, flags=cv2.INTER_NEAREST, borderValue=(IGNORE,)),  # type: ignore[arg-type]
    )


def copy_paste(sample: Sample, other: Sample, rng: np.random.Generator) -> tuple[Sample, NDArray[np.uint8]]:
    """Puts another photo's person beside, behind or before a sample's, as copy-paste does (Ghiasi et al., CVPR 2021).

    Args:
        sample: The photo.
        other: A photo of the same size.
        rng: Source of randomness.

    Returns:
        The photo, its own person's labels only, and (H, W) the labels of the other person, 0 elsewhere.
    """
    width = sample.labels.shape[1]
    shift = round(width * rng.uniform(0.25, 0.75)) * int(rng.choice((-1, 1)))
    into = slice(max(shift, 0), width + min(shift, 0))
    out_of = slice(max(-shift, 0), width + min(-shift, 0))
    labels = np.zeros_like(sample.labels)
    labels[:, into] = other.labels[:, out_of]
    labels[labels == IGNORE] = 0
    if rng.random() < 0.7:  # behind
        labels[(sample.labels != 0) & (sample.labels != IGNORE)] = 0
    is_other = labels > 0
    moved = np.zeros_like(sample.image)
    moved[:, into] = other.image[:, out_of]
    image = np.where(is_other[..., None], moved, sample.image)
    own = np.where(is_other, np.uint8(0), sample.labels)
    objects = None if sample.objects is None else np.where(is_other, np.uint8(0), sample.objects)
    return replace(sample, image=image, labels=own, objects=objects), labels


def on_background(sample: Sample, background: NDArray[np.uint8], rng: np.random.Generator) -> Sample:
    """Puts the people of a sample before another photo.

    Args:
        sample: With the opacity of its people.
        background: (h, w, 3) uint8 RGB, a photo without people, of any size; a part of it is taken.
        rng: Source of randomness.

    Returns:
        The sample, in which pixels that were ignored but hold no person are background.
    """
    assert sample.alpha is not None
    height, width = sample.labels.shape
    rows, columns = background.shape[:2]
    side = rng.uniform(0.35, 1.0) * min(rows / height, columns / width)
    h, w = max(1, int(height * side)), max(1, int(width * side))
    top, left = int(rng.integers(rows - h + 1)), int(rng.integers(columns - w + 1))
    behind: NDArray[Any] = background[top : top + h, left : left + w]
    behind = cv2.resize(behind, (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        behind = behind[:, ::-1]
    if rng.random() < 0.3:
        behind = cv2.GaussianBlur(behind, (0, 0), rng.uniform(1, 6))
    opacity = sample.alpha[..., None].astype(np.float32) / np.float32(255)
    image = sample.image * opacity + behind * (1 - opacity)
    labels = np.where((sample.labels == IGNORE) & (sample.alpha < _TRANSPARENT), np.uint8(0), sample.labels)
    return replace(sample, image=image.astype(np.uint8), labels=labels)


def one_of_them(sample: Sample, rng: np.random.Generator) -> tuple[Sample, NDArray[np.uint8] | None]:
    """Of several people in a sample one is meant.

    Args:
        sample: A photo, maybe with people told apart.
        rng: Source of randomness.

    Returns:
        The sample with the labels of one person, and (H, W) the labels of the others, 0 elsewhere; the sample as it
        is and ``None`` where there are not several.
    """
    if sample.people is None or (who := np.unique(sample.people[sample.people > 0])).size < 2:
        return sample, None
    is_meant = (sample.people == rng.choice(who)) | (sample.people == 0)
    others = np.where(is_meant | (sample.labels == IGNORE), np.uint8(0), sample.labels)
    return replace(sample, labels=np.where(is_meant, sample.labels, np.uint8(0))), others


def random_colours(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Changes light, contrast, saturation and tint, now and then greyscale, noise, blur or JPEG artefacts."""
    x = image.astype(np.float32)
    grey = x @ np.array([0.299, 0.587, 0.114], np.float32)
    saturation = 0.0 if rng.random() < 0.08 else rng.uniform(0.6, 1.4)
    x = grey[..., None] + (x - grey[..., None]) * np.float32(saturation)
    light = rng.uniform(-0.35, 0.35) if rng.random() < 0.85 else rng.uniform(-1.4, -0.3)  # now and then it is dark
    x *= np.array(rng.uniform(0.92, 1.08, 3), np.float32) * np.float32(math.exp(light))
    x = (x - grey.mean()) * np.float32(rng.uniform(0.75, 1.3)) + grey.mean()
    if rng.random() < 0.15:
        x += rng.normal(0, rng.uniform(2, 10), x.shape).astype(np.float32)
    out: NDArray[Any] = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.5, 1.5))
    if rng.random() < 0.15:
        _, code = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 80))])
        out = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))
    return out
