"""The click-free prediction: the parse of a photo on which nobody has clicked yet."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.geometry import Box, View, working_size
from ihp_backend.inference.engine import Engine
from ihp_backend.parts import IGNORE

_COARSE_SHARE = 0.5
"""Area of a coarse pass, as a share of the network's working area."""


def coarse_size(box: Box, area: int) -> tuple[int, int]:
    """Returns the (height, width) at which a coarse pass sees a part of a photo, for a working area in pixels."""
    return working_size(box.height, box.width, area=round(_COARSE_SHARE * area))


def click_free(
    engine: Engine,
    image: NDArray[np.uint8],
    view: View,
    key: str | None,
    *,
    flip: bool = True,
    second_size: bool = True,
) -> NDArray[np.float32]:
    """Returns the mean logits (K, h, w) of a view over two sizes and their mirror images.

    Without clicks to go by, four passes see better than one. The features of the first click are kept on the way.

    Args:
        engine: Runs the network.
        image: (H, W, 3) uint8 RGB.
        view: Which part of it.
        key: Names the image; ``None`` keeps no features.
        flip: Whether the network sees the mirror images.
        second_size: Whether it sees the view in the size of a coarse pass, too.
    """
    schema = engine.config.parts
    pairs = [*schema.mirrored, *range(len(schema), engine.config.channels)]
    unpaired = [c for c, pair in enumerate(pairs) if pair == IGNORE]  # its mirror image is unknown
    order = [c if c in unpaired else pair for c, pair in enumerate(pairs)]
    views = [view]
    if second_size:
        views.append(View(view.box, *coarse_size(view.box, engine.config.area)))
    sizes = []
    for seen in views:
        nothing = engine.no_prev_mask(seen)
        logits, _ = engine.run(image, seen, (), nothing, key if seen is view else None)
        if flip:
            mirrored, _ = engine.run(image, seen, (), nothing, mirrored=True)
            turned = mirrored[order, :, ::-1]
            turned[unpaired] = logits[unpaired]
            logits = logits + turned
        sizes.append(logits)
    full, *smaller = sizes
    for channel, plane in enumerate(full):
        for small in smaller:
            plane += cv2.resize(small[channel], plane.shape[::-1], interpolation=cv2.INTER_LINEAR)
        plane /= len(views) * (1 + flip)
    return full
