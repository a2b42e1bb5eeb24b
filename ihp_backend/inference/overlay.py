"""Pictures of a prediction: the photo, its masks in their colours with outlines and names, and the clicks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ihp_backend.clicks import Click
from ihp_backend.parts import Schema

_LONG_SIDE = 1100
_OPEN_CLASS = (250, 250, 110)


def label_colour(label: str, schema: Schema) -> tuple[int, int, int]:
    """RGB of a label: its part's colour, or a colour of its own for a label that the schema does not know."""
    part = schema.find(label)
    return _OPEN_CLASS if part is None else schema.colours[part]


def draw_overlay(
    image: NDArray[np.uint8],
    masks: Mapping[str, NDArray[np.bool_]],
    colours: Mapping[str, tuple[int, int, int]],
    clicks: Sequence[Click] = (),
    *,
    names: bool = True,
    opacity: float = 0.5,
) -> NDArray[np.uint8]:
    """Draws masks and clicks on a photo.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: (H, W) bool for each label.
        colours: RGB, 0-255, for each label of the masks and the clicks.
        clicks: In image pixels; drawn as rings in their label's colour, negative ones crossed out.
        names: Whether to write each label on its mask.
        opacity: Of the masks, 0 to 1.

    Returns:
        (h, w, 3) uint8 RGB; small photos are enlarged to about 1100 pixels, so that lines and names stay fine.
    """
    height, width = image.shape[:2]
    scale = max(1.0, _LONG_SIDE / max(height, width))
    size = (round(width * scale), round(height * scale))
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    everything = np.zeros(canvas.shape[:2], bool)
    big = {
        label: cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5
        for label, mask in masks.items()
    }
    for label, mask in big.items():
        everything |= mask
        canvas[mask] = canvas[mask] * (1 - opacity) + np.array(colours[label], np.float32) * opacity
    if masks:
        canvas[~everything] *= 0.55
    out = np.ascontiguousarray(canvas.clip(0, 255).astype(np.uint8))
    line = max(1, round(max(size) / 600))
    for label, mask in big.items():
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(out, outlines, -1, (255, 255, 255), line + 1, cv2.LINE_AA)
        cv2.drawContours(out, outlines, -1, colours[label], line, cv2.LINE_AA)
    return _write(out, big if names else {}, colours, [(c, c.x * scale, c.y * scale) for c in clicks])


def _write(
    canvas: NDArray[np.uint8],
    masks: Mapping[str, NDArray[np.bool_]],
    colours: Mapping[str, tuple[int, int, int]],
    clicks: Sequence[tuple[Click, float, float]],
) -> NDArray[np.uint8]:
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    unit = max(canvas.shape[:2]) / 1100
    font = ImageFont.load_default(size=round(17 * unit))
    radius = 7 * unit
    for click, x, y in clicks:
        for ring, colour in ((radius + 2 * unit, "white"), (radius, colours[click.part])):
            draw.ellipse((x - ring, y - ring, x + ring, y + ring), fill=colour, outline="black")
        arm = 4 * unit
        draw.line((x - arm, y, x + arm, y), fill="white", width=max(1, round(2 * unit)))
        if click.is_positive:
            draw.line((x, y - arm, x, y + arm), fill="white", width=max(1, round(2 * unit)))
    for label, mask in masks.items():
        if not mask.any():
            continue
        distance = cv2.distanceTransform(np.pad(mask.view(np.uint8), 1), cv2.DIST_L2, 3)
        row, column = np.unravel_index(int(distance.argmax()), distance.shape)
        place = (float(column), float(row) + 18 * unit)
        box = draw.textbbox(place, label, font=font, anchor="mm")
        box = (box[0] - 4 * unit, box[1] - 3 * unit, box[2] + 4 * unit, box[3] + 3 * unit)
        draw.rounded_rectangle(box, radius=4 * unit, fill=(20, 20, 20), outline=colours[label])
        draw.text(place, label, font=font, anchor="mm", fill="white")
    return np.asarray(picture)
