"""The parse of one photo, and how to read it: masks, label map, scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import View
from ihp_backend.inference.label_channels import Channels
from ihp_backend.inference.logits import best_channel
from ihp_backend.inference.postprocess.guided_upsampling import GuidedUpsampling

if TYPE_CHECKING:
    from ihp_backend.inference.people import People

_BEYOND = 5.0
"""Logit of the background, and minus that of all parts, where a view did not see."""

_NOT_THERE = -10_000.0
"""Logit of a part where it is not looked for."""


@dataclass(frozen=True)
class Prediction:
    """Masks by label.

    Attributes:
        masks: (H, W) bool for each answered label.
        scores: Expected IoU of each mask, 0 to 1, by the network's own probabilities.
        people: Who is in the photo, as the prediction has seen them.
        parse: What the masks are read off; those of labels that had to wait for a channel are of a later one.
    """

    masks: dict[str, NDArray[np.bool_]]
    scores: dict[str, float]
    people: People
    parse: Parse

    @property
    def score(self) -> float:
        """Mean of the scores; 0 without masks."""
        return float(np.mean(list(self.scores.values()))) if self.scores else 0.0


@dataclass(frozen=True)
class Parse:
    """The parse of a view of a photo.

    Attributes:
        height: Height of the photo in pixels.
        width: Its width.
        view: The crop that the network saw.
        logits: (K, h, w) float32, at stride 2 of the view, after post-processing.
        channels: Which channel speaks for which label.
        clicks: The clicks that led to it, in image pixels, oldest first.
        predicted: The logits before the progressive merge, if there was one: the network's next ``prev_mask`` comes
            from them. ``None``: they are ``logits``.
        upsampling: Brings masks to the photo's size; without it, they are interpolated.
    """

    height: int
    width: int
    view: View
    logits: NDArray[np.float32]
    channels: Channels
    clicks: tuple[Click, ...]
    predicted: NDArray[np.float32] | None = None
    upsampling: GuidedUpsampling | None = None

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """(K, h, w), summing to 1 over K."""
        return _softmax(self.logits)

    @cached_property
    def _best(self) -> NDArray[np.int64]:
        return best_channel(self.logits)

    @cached_property
    def _greatest(self) -> NDArray[np.float32]:
        found: NDArray[np.float32] = np.take_along_axis(self.logits, self._best[None], 0)[0]
        return found

    def foreground(self) -> NDArray[np.bool_]:
        """(h, w): where there is a person rather than background."""
        foreground: NDArray[np.bool_] = self._best != 0
        return foreground

    def is_best(self, channels: Sequence[int]) -> NDArray[np.bool_]:
        """(h, w): where one of these channels is the most probable one."""
        return np.isin(self._best, channels)

    def most_probable(self, x: float, y: float, among: Sequence[int]) -> int:
        """Returns the channel, of these, that is most probable at a place (x, y) of the photo."""
        _, h, w = self.logits.shape
        row, column = self.view.cell(x, y)
        row, column = min(max(row, 0), h - 1), min(max(column, 0), w - 1)
        return max(among, key=lambda c: float(self.logits[c, row, column]))

    def margin(self, own: Sequence[int]) -> NDArray[np.float32]:
        """(h, w): the logit margin, by how much the best of these channels leads the best other one.

        Interpolated margins of different labels are never positive at the same place, so masks do not overlap.
        """
        margin: NDArray[np.float32] = self.logits[list(own)].max(0) - self._greatest
        rows, columns = np.nonzero(self.is_best(own))  # only there somebody else is the best other one
        rest = self.logits[:, rows, columns]
        rest[list(own)] = -np.inf
        margin[rows, columns] = self._greatest[rows, columns] - rest.max(0)
        return margin

    def _enlarge(self, margin: NDArray[np.float32]) -> NDArray[np.float32]:
        """A margin (h, w) at the size of the view's box; positive where the margin is."""
        return self.view.enlarge(margin) if self.upsampling is None else self.upsampling.enlarge(_scaled(margin))

    def within(self, own: NDArray[np.bool_]) -> Parse:
        """Returns the parse as if there were background outside of some stride-2 pixels, (h, w)."""
        logits = np.where(own, self.logits, np.float32(_NOT_THERE))
        logits[0, ~own] = 0
        return replace(self, logits=logits, predicted=None)

    def cells(self, label: str) -> int:
        """In how many stride-2 pixels a label is the most probable one."""
        own = self.channels.of(label)
        return int(self.is_best(own).sum()) if own else 0

    def is_seen(self, label: str) -> bool:
        """Whether a label is the most probable one in at least four stride-2 pixels."""
        return self.cells(label) >= 4

    def mask(self, label: str) -> NDArray[np.bool_]:
        """The mask of a label at the photo's size, (H, W).

        Positive clicks of the label are inside, negative ones and other labels' positive ones outside; of clicks on
        one pixel the newest counts.
        """
        mask = np.zeros((self.height, self.width), bool)
        own = self.channels.of(label)
        if own:
            margin = self.margin(own)
            mask[self.view.box.slices] = (
                self.view.enlarge(margin) > 0 if self.upsampling is None else self.upsampling.positive(_scaled(margin))
            )
        for radius in (max(1, round(0.004 * max(self.view.box.width, self.view.box.height))), 0):
            for click in self.clicks:
                if click.is_positive:
                    _stamp(mask, click, radius, click.part == label)
                elif click.part == label:
                    _stamp(mask, click, radius, False)
        return mask

    def label_map(self, allowed: Sequence[int] | None = None) -> NDArray[np.uint8]:
        """The most probable channel of each pixel of the photo, (H, W); 0 outside the view.

        Args:
            allowed: Only these channels may win.
        """
        among = self
        if allowed is not None:
            logits = np.full_like(self.logits, -np.inf)
            logits[list(allowed)] = self.logits[list(allowed)]
            among = replace(self, logits=logits)
        seen = [int(c) for c in np.unique(among._best)]
        margins = np.stack([self._enlarge(among.margin([c])) for c in seen])
        out = np.zeros((self.height, self.width), np.uint8)
        out[self.view.box.slices] = np.array(seen, np.uint8)[margins.argmax(0)]
        for click in self.clicks:
            channel = self.channels.at(click.part, click.x, click.y)
            if click.is_positive and channel is not None and (allowed is None or channel in allowed):
                out[click.pixel(self.height, self.width)] = channel
        return out

    def score(self, label: str) -> float:
        """Expected IoU of a label's mask if the probabilities are right: 0 to 1."""
        own = self.channels.of(label)
        if not own:
            return 0.0
        probable = self.probabilities[list(own)].sum(0)
        inside = self.is_best(own)
        union = float(inside.sum() + probable[~inside].sum())
        return float(probable[inside].sum()) / union if union > 0 else 0.0

    def write_prev_mask(self, view: View, out: NDArray[np.float32]) -> None:
        """Writes the network's probabilities as another view of the same photo sees them; ``out`` is (K, h', w')."""
        self._warp(self.probabilities if self.predicted is None else _softmax(self.predicted), view, out)

    def seen_from(self, view: View) -> NDArray[np.float32]:
        """Returns the logits (K, h', w') as another view of the same photo sees them; background beyond this one."""
        if view == self.view:
            return self.logits
        out = np.empty((len(self.logits), *view.grid), np.float32)
        self._warp(self.logits, view, out, beyond=-_BEYOND)
        out[0][(out <= -_BEYOND).all(0)] = _BEYOND
        return out

    def best_from(self, view: View) -> NDArray[np.int64]:
        """Returns the most probable channels (h', w') as another view of the same photo sees them."""
        return self._best if view == self.view else best_channel(self.seen_from(view))

    def _warp(self, planes: NDArray[np.float32], view: View, out: NDArray[np.float32], beyond: float = 0.0) -> None:
        if view == self.view:
            out[:] = planes
            return
        (x0, y0), (x1, y1) = (self.view.into_grid(*view.out_of_grid(i, i)) for i in (0, 1))
        step_x, step_y = x1 - x0, y1 - y0
        # The stride-2 pixel i has its centre at i + 1/2 of the grid.
        affine = np.array([[step_x, 0, x0 + step_x / 2 - 0.5], [0, step_y, y0 + step_y / 2 - 0.5]], np.float64)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        for channel, plane in enumerate(planes):
            out[channel] = cv2.warpAffine(plane, affine, out.shape[:0:-1], flags=flags, borderValue=beyond)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    e = np.exp(logits - logits.max(0))
    probabilities: NDArray[np.float32] = e / e.sum(0)
    return probabilities


def _scaled(margin: NDArray[np.float32]) -> NDArray[np.float32]:
    """A margin as guided upsampling wants it, from -1 to 1."""
    scaled: NDArray[np.float32] = np.tanh(margin / 2)
    return scaled


def _stamp(mask: NDArray[np.bool_], click: Click, radius: int, value: bool) -> None:
    row, column = click.pixel(*mask.shape)
    rows = slice(max(row - radius, 0), row + radius + 1)
    columns = slice(max(column - radius, 0), column + radius + 1)
    mask[rows, columns] = value
