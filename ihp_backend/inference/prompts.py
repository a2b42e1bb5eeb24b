"""What the annotator gives the network: clicks and masks, and which labels they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import Box
from ihp_backend.parts import Schema


@dataclass(frozen=True)
class Prompts:
    """The prompts of one request.

    Attributes:
        clicks: All open clicks, of any label, in image pixels, oldest first.
        labels: Every label of the project and the schema's parts that it stands for (none: the clicks alone define it;
            several: their union). ``None``: the schema's own names.
        wanted: Labels to answer. ``None``: every label that is seen with some certainty, but for the background.
        earlier_clicks: Clicks behind masks that the annotator has accepted, oldest first, all before ``clicks``. The
            network sees them; unlike ``clicks``, they may be contradicted.
        masks: Mask prompts, (H, W) bool: what the annotator has accepted, by label.
        boxes: By label, in pixels of the photo: its part is in there, and its mask is nowhere else.
        suggest: Whether to answer, beside the wanted labels, the others that are seen and have no mask prompt.
        everyone: Whether a click means everyone in the photo, not the one person it is on.
    """

    clicks: Sequence[Click] = ()
    labels: Mapping[str, tuple[str, ...]] | None = None
    wanted: Sequence[str] | None = None
    earlier_clicks: Sequence[Click] = ()
    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    boxes: Mapping[str, Box] = field(default_factory=dict)
    suggest: bool = False
    everyone: bool = False

    def parts(self, schema: Schema) -> Mapping[str, tuple[str, ...]]:
        """Returns the parts of a schema that each label stands for."""
        return {name: (name,) for name in schema.names} if self.labels is None else self.labels

    def after(self, clicks: Sequence[Click]) -> Prompts:
        """Returns the same prompts with these clicks alone."""
        return replace(self, clicks=tuple(clicks), earlier_clicks=())

    def check(self, schema: Schema, height: int, width: int) -> None:
        """Checks the prompts for a photo of (height, width).

        Raises:
            ValueError: If a click, a box or a mask prompt has a label that is not among the labels, or a mask has
                another shape than the photo.
        """
        labels = self.parts(schema)
        for label in (*(c.part for c in (*self.clicks, *self.earlier_clicks)), *self.masks, *self.boxes):
            if label not in labels:
                raise ValueError(f"label {label!r} is not among the labels: {', '.join(labels)}")
        for label, mask in self.masks.items():
            if mask.shape != (height, width):
                raise ValueError(f"the mask of {label!r} has shape {mask.shape}, the image {(height, width)}")
