"""Labels for photos of which the outline of the people is known, and some classes: the network says the rest.

Portraits with a soft mask of the person are plenty, portraits with parsed clothes are not. Inside a known outline even
a network that misses half of a suit tells coat from shirt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.data.sample import DataError, Sample
from ihp_backend.inference.predictor import Predictor
from ihp_backend.parts import IGNORE

_INSIDE, _OUTSIDE = 200, 30
"""Above the first opacity (0 to 255) somebody is there, up to the second nobody; between the two is their edge."""


def fill_outline(sample: Sample, predictor: Predictor, parts: Sequence[str], same: Mapping[int, str]) -> Sample:
    """Labels the people of a sample.

    Args:
        sample: With the opacity of its people. Its labels are of another schema than the predictor's.
        predictor: Says without a click which part each pixel is.
        parts: Parts of the predictor's schema that may be inside of the outline.
        same: For ids of the sample's schema the part that they are; the predictor is not asked there.

    Returns:
        The sample with ids of the predictor's schema: background outside, 255 along the edge and where the sample's own
        labels ignore, the named parts inside.

    Raises:
        DataError: If the sample has no opacity, or a part is not of the predictor's schema.
    """
    schema = predictor.schema
    if sample.alpha is None:
        raise DataError(f"sample {sample.name!r} has no opacity of its people; expected people/{sample.name}.png")
    if unknown := sorted({*parts, *same.values()} - set(schema.names)):
        raise DataError(f"schema {schema.name!r} has no part {', '.join(unknown)}; it has {', '.join(schema.names)}")
    parse = predictor.parse(sample.image)
    labels = parse.label_map([schema.names.index(part) for part in parts])
    labels[(labels == 0) | (sample.alpha <= _INSIDE)] = IGNORE  # the predictor may see a part of the photo only
    labels[sample.alpha <= _OUTSIDE] = 0
    for own, part in same.items():
        labels[sample.labels == own] = schema.names.index(part)
    labels[sample.labels == IGNORE] = IGNORE
    return replace(sample, labels=labels)


def reduced(sample: Sample, longest: int) -> Sample:
    """Returns a sample whose longer side has so many pixels at most; its opacity and objects go along."""
    height, width = sample.labels.shape
    scale = min(1.0, longest / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))

    def resized(array: NDArray[np.uint8] | None, how: int) -> NDArray[np.uint8] | None:
        return None if array is None else cv2.resize(array, size, interpolation=how).astype(np.uint8)

    image, labels = resized(sample.image, cv2.INTER_AREA), resized(sample.labels, cv2.INTER_NEAREST)
    assert image is not None
    assert labels is not None
    alpha, objects = resized(sample.alpha, cv2.INTER_AREA), resized(sample.objects, cv2.INTER_NEAREST)
    return replace(sample, image=image, labels=labels, alpha=alpha, objects=objects)
