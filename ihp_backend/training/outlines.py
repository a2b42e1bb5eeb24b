"""Labels for photos of which the outline of the people is known, and some classes: the network says the rest.

Portraits with a soft mask of the person are plenty, portraits with parsed clothes are not. Inside a known outline even
a network that misses half of a suit tells coat from shirt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

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
