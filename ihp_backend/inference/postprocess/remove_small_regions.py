"""Small islands of a part, away from the rest of it, become what is around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.geometry import OUTPUT_STRIDE
from ihp_backend.inference.logits import best_channel
from ihp_backend.inference.people import close_gaps
from ihp_backend.inference.postprocess.split_people import DEFAULTS as SPLIT
from ihp_backend.inference.postprocess.split_people import Place, SplitPeopleOptions, split_by_heads
from ihp_backend.network.click_maps import Point


@dataclass(frozen=True)
class SmallRegionOptions:
    """Options of ``remove_small_regions``.

    Attributes:
        least_share: An island with less than this share of its part is small,
        least: and so is one of fewer stride-2 pixels.
        certain: Of a part that is clicked, islands without a click stay if their mean probability is as high.
        passes: At most so many: what takes an island's place may be an island itself.
    """

    least_share: float = 0.03
    least: int = 6
    certain: float = 0.8
    passes: int = 3


_DEFAULTS = SmallRegionOptions()


def remove_small_regions(
    logits: NDArray[np.float32],
    points: Sequence[Point],
    heads: Sequence[Place] = (),
    *,
    one_person: bool = True,
    options: SmallRegionOptions = _DEFAULTS,
    split: SplitPeopleOptions = SPLIT,
) -> NDArray[np.float32]:
    """Removes islands that hold no positive click.

    Of every channel, those that are small beside the rest of it. Of a channel that is clicked elsewhere also those of
    which the network is not certain, and those on another person: a click means one person. The channel with the next
    greatest logit takes their place; on another person, the background.

    Args:
        logits: (K, h, w) float32, one stride-2 pixel for 2x2 pixels of the points' coordinates; changed in place.
        points: Clicks in pixels of the view.
        heads: Heads, (x, y) in pixels of the view; people who touch are told apart by them.
        one_person: Whether a click means the one person that it is on.
        options: The thresholds.
        split: How people who touch are told apart.

    Returns:
        The logits.
    """
    clicked = _places(points, *logits.shape[1:])
    gone = np.zeros(logits.shape, bool)
    best = best_channel(logits)
    channels = np.flatnonzero(np.bincount(best.ravel()))
    for _ in range(options.passes):
        people = None
        if clicked and one_person:
            people = split_by_heads(
                cv2.connectedComponents(close_gaps(best != 0))[1],
                [(x / OUTPUT_STRIDE, y / OUTPUT_STRIDE) for x, y in heads],
                split,
            )
        rows, columns = _remove(logits, gone, best, clicked, channels, people, options)
        was = best[rows, columns]
        best[rows, columns] = now = logits[:, rows, columns].argmax(0)
        channels = np.intersect1d(now[now != was], list(clicked))  # they may have a new island there
        if not channels.size:
            break
    return logits


def _remove(
    logits: NDArray[np.float32],
    gone: NDArray[np.bool_],
    best: NDArray[np.intp],
    clicked: dict[int, list[tuple[int, int]]],
    channels: NDArray[Any],
    people: NDArray[Any] | None,
    options: SmallRegionOptions,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """One pass over these channels; returns the rows and columns of the stride-2 pixels that were changed."""
    changed = []
    for channel in (int(c) for c in channels):
        islands, sizes = _islands(best == channel, people if channel and channel in clicked else None)
        count = len(sizes)
        if count <= 2 and (sizes[-1] >= options.least or channel in clicked):
            continue
        is_small = sizes < max(options.least, options.least_share * sizes[1:].sum())
        is_foreign: NDArray[np.bool_] = np.zeros(count, bool)
        if channel and channel in clicked:
            is_small |= _mean_probabilities(logits, channel, islands, sizes) < options.certain
            if people is not None:
                meant = [people[cell] for part, places in clicked.items() if part for cell in places]
                person_of = np.zeros(count, np.int32)
                person_of[islands] = people
                is_foreign |= ~np.isin(person_of, meant)
        kept = [0, *(islands[cell] for cell in clicked.get(channel, ()))]
        is_small[kept] = is_foreign[kept] = False
        rows, columns = np.nonzero((is_small | is_foreign)[islands])
        if len(rows):
            there = logits[:, rows, columns]
            before = there[channel].copy()
            changed.append((rows, columns))
            gone[channel, rows, columns] = True
            out = gone[:, rows, columns]  # who was removed there before does not come back
            rest = np.where(out, -np.inf, there).max(0) - np.float32(0.1)
            logits[:, rows, columns] = np.where(out, np.minimum(there, rest), there)
            foreign = is_foreign[islands[rows, columns]]
            logits[0, rows[foreign], columns[foreign]] = before[foreign]
    everywhere = np.concatenate([np.zeros((2, 0), np.intp), *changed], axis=1)
    return everywhere[0], everywhere[1]


def _islands(part: NDArray[np.bool_], people: NDArray[Any] | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Numbers a part's connected pieces, (h, w), and counts their pixels; 0 is the rest. People divide the pieces."""
    count, islands, stats, _ = cv2.connectedComponentsWithStats(part.astype(np.uint8))
    if people is None or count < 2:
        return islands, stats[:, cv2.CC_STAT_AREA]
    pieces = np.unique(islands[part].astype(np.int64) * (int(people.max()) + 1) + people[part], return_inverse=True)[1]
    divided = np.zeros_like(islands)
    divided[part] = pieces + 1
    return divided, np.bincount(divided.ravel())


def _places(points: Sequence[Point], height: int, width: int) -> dict[int, list[tuple[int, int]]]:
    """The stride-2 pixels (row, column) of the positive clicks, by channel."""
    places: dict[int, list[tuple[int, int]]] = {}
    for point in points:
        row, column = point.cell
        if point.is_positive and 0 <= row < height and 0 <= column < width:
            places.setdefault(point.channel, []).append((row, column))
    return places


def _mean_probabilities(
    logits: NDArray[np.float32], channel: int, islands: NDArray[np.int32], sizes: NDArray[np.int32]
) -> NDArray[Any]:
    """The channel's mean probability on each island."""
    rows, columns = np.nonzero(islands)
    there = logits[:, rows, columns]
    there = np.exp(there - there.max(0))
    probabilities = there[channel] / there.sum(0)
    sums: NDArray[Any] = np.bincount(islands[rows, columns], probabilities, len(sizes))
    return sums / np.maximum(sizes, 1)  # type: ignore[no-any-return]
