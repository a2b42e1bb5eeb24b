"""A negative click takes the coherent piece that it is clicked into, not a pinhole around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.inference.logits import best_channel
from ihp_backend.inference.postprocess.likeness import Cell, feature_cell, likeness, unit_features
from ihp_backend.network.click_maps import Point


@dataclass(frozen=True)
class WrongPieceOptions:
    """Options of ``remove_wrong_piece``.

    A stride-2 pixel belongs to the piece if its evidence, the weighted sum of three comparisons between the negative
    click and the positive ones, is more than the threshold. The weights are those of a logistic regression on wrong
    and right pixels of masks that one click made.

    Attributes:
        likeness: Weight of its features being more like those at the negative click: 1 at it, -1 at a positive one.
        certainty: Weight of the network being as unsure of the label as at the negative click: 1 as there, -1 as sure
            as at a positive one.
        distance: Weight of the negative click being nearer: the logarithm of the distances' ratio.
        threshold: Of the evidence. Higher takes less of the piece, and less of what is right.
        margin: Logit margin by which the label trails in the piece.
    """

    likeness: float = 2.2
    certainty: float = 1.4
    distance: float = 1.5
    threshold: float = 0.9
    margin: float = 0.5


_DEFAULTS = WrongPieceOptions()


def remove_wrong_piece(
    logits: NDArray[np.float32],
    embedding: NDArray[np.float32] | None,
    points: Sequence[Point],
    before: NDArray[np.intp] | None = None,
    options: WrongPieceOptions = _DEFAULTS,
) -> NDArray[np.float32]:
    """Takes from each negative click's part the piece around the click, as far as it is unlike the positive clicks.

    An island of the part without a positive click goes whole, if the part is clicked elsewhere. The runner-up takes
    over.

    Args:
        logits: (K, h, w) float32, one stride-2 pixel for 2x2 pixels of the points' coordinates; changed in place.
        embedding: (D, h/2, w/2) float32 features, or ``None``: then they are not compared.
        points: Clicks in pixels of the view; those outside are passed over.
        before: (h, w) the leading channels before the newest click, if they are known.
        options: The weights.

    Returns:
        The logits.
    """
    height, width = logits.shape[1:]

    def is_inside(point: Point) -> bool:
        return 0 <= point.cell[0] < height and 0 <= point.cell[1] < width

    leading: NDArray[np.intp] | None = None
    for point in points:
        if point.is_positive or not is_inside(point):
            continue
        if leading is None:
            leading = best_channel(logits)
        channel = point.channel
        mask = leading == channel
        if before is not None:
            mask |= before == channel
        part = _around(mask, point.cell)
        clicked = [p.cell for p in points if p.is_positive and p.channel == channel and is_inside(p)]
        rest = np.delete(logits, channel, axis=0).max(0)
        certainty = logits[channel] - rest
        right = [cell for cell in clicked if part[cell]]
        if not right and not clicked:  # a mask that nobody clicked: where the network is surest of it, it is right
            surest = np.where(part, certainty, -np.inf)
            right = [divmod(int(surest.argmax()), width)]
            if right[0] == point.cell:
                continue
        if right:
            evidence = _evidence(certainty, embedding, point.cell, right, options)
            evidence[point.cell] = np.inf
            part = _around(part & (evidence > options.threshold), point.cell)
        logits[channel][part] = np.minimum(logits[channel], rest - np.float32(options.margin))[part]
    return logits


def _evidence(
    certainty: NDArray[np.float32],
    embedding: NDArray[np.float32] | None,
    wrong: Cell,
    right: Sequence[Cell],
    options: WrongPieceOptions,
) -> NDArray[np.float32]:
    """How much each stride-2 pixel, (h, w), is like the negative click rather than like the positive ones."""
    height, width = certainty.shape
    low, high = certainty[wrong], max(certainty[cell] for cell in right)
    as_unsure = 1 - 2 * np.clip((certainty - low) / max(high - low, 0.5), 0, 1)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)

    def distance(cell: Cell) -> NDArray[np.float32]:
        squared: NDArray[np.float32] = (rows - cell[0]) ** 2 + (columns - cell[1]) ** 2
        return np.sqrt(squared)

    nearer = np.log((np.min([distance(c) for c in right], axis=0) + 2) / (distance(wrong) + 2))
    evidence = options.certainty * as_unsure + options.distance * nearer
    if embedding is not None:
        evidence += options.likeness * _more_alike(embedding, wrong, right, (height, width))
    smooth: NDArray[np.float32] = cv2.GaussianBlur(evidence.astype(np.float32), (0, 0), 1.0)
    return smooth


def _more_alike(
    embedding: NDArray[np.float32], wrong: Cell, right: Sequence[Cell], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """By how much the features are more like those at one cell than at others, (h, w): about 1 at it, -1 at those."""
    features = unit_features(embedding)
    places = [feature_cell(features, cell, shape) for cell in right]
    to_wrong = likeness(features, feature_cell(features, wrong, shape))
    difference = to_wrong - np.max([likeness(features, place) for place in places], axis=0)
    scale = 1 - max(to_wrong[place] for place in places) + 0.05
    found: NDArray[np.float32] = cv2.resize(difference / scale, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return found


def _around(mask: NDArray[np.bool_], cell: Cell) -> NDArray[np.bool_]:
    """The connected piece of a mask (h, w) that a cell lies in or touches, and the cell."""
    joined = mask.astype(np.uint8)
    joined[max(cell[0] - 1, 0) : cell[0] + 2, max(cell[1] - 1, 0) : cell[1] + 2] = 1
    _, pieces = cv2.connectedComponents(joined, connectivity=4)
    found: NDArray[np.bool_] = (pieces == pieces[cell]) & mask
    found[cell] = True
    return found
