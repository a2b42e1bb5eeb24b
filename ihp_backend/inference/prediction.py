"""What the network said about one photo, and how to read it: masks, label map, scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import View
from ihp_backend.inference.label_channels import Channels
from ihp_backend.inference.people import two_best, winners
from ihp_backend.inference.postprocess.guided_upsampling import Guide

_BEYOND = 5.0
"""Logit of the background, and minus that of all parts, where a view did not see."""


@dataclass(frozen=True)
class Parse:
    """The parse of a view of a photo.

    Attributes:
        height: Height of the photo in pixels.
        width: Its width.
        view: The crop that the network saw.
        logits: (K, h, w) float32, one cell for 2x2 pixels of the view.
        channels: Which channel speaks for which label.
        clicks: The clicks that led to it, in image pixels, oldest first.
        raw: The logits as the network said them, where a correction was held to what it points at: the network goes
            on from its own.
        guide: What the photo looks like there, whose edges the masks follow; without one they are interpolated.
    """

    height: int
    width: int
    view: View
    logits: NDArray[np.float32]
    channels: Channels
    clicks: tuple[Click, ...]
    raw: NDArray[np.float32] | None = None
    guide: Guide | None = None

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """(K, h, w), summing to 1 over K."""
        return _softmax(self.logits)

    @cached_property
    def _winner(self) -> NDArray[np.int64]:
        return winners(self.logits)

    @cached_property
    def _two_best(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return two_best(self.logits, self._winner)

    def figure(self) -> NDArray[np.bool_]:
        """(h, w): where there is a person rather than background."""
        figure: NDArray[np.bool_] = self._winner != 0
        return figure

    def is_won_by(self, channels: Sequence[int]) -> NDArray[np.bool_]:
        """(h, w): where one of these channels is the most probable one."""
        return np.isin(self._winner, channels)

    def likeliest(self, x: float, y: float, among: Sequence[int]) -> int:
        """Returns the channel, of these, that is most probable at a place (x, y) of the photo."""
        u, v = self.view.into(x, y)
        _, h, w = self.logits.shape
        row, column = min(max(int(v // 2), 0), h - 1), min(max(int(u // 2), 0), w - 1)
        return max(among, key=lambda c: float(self.logits[c, row, column]))

    def lead(self, own: Sequence[int]) -> NDArray[np.float32]:
        """(h, w): by how much the best of these channels leads the best other one.

        Interpolated, the leads of different labels are never positive at the same place: masks do not overlap.
        """
        if len(own) == 1:
            first, second = self._two_best
            return np.where(self._winner == own[0], first - second, self.logits[own[0]] - first)
        rest = np.setdiff1d(np.arange(len(self.logits)), own)
        lead: NDArray[np.float32] = self.logits[list(own)].max(0) - self.logits[rest].max(0)
        return lead

    def _enlarge(self, lead: NDArray[np.float32]) -> NDArray[np.float32]:
        """A lead (h, w) at the size of the view's box; positive where it is."""
        return self.view.enlarge(lead) if self.guide is None else self.guide.enlarge(_scaled(lead))

    def is_seen(self, label: str) -> bool:
        """Whether a label wins anywhere, in more than a speck."""
        own = self.channels.of(label)
        return bool(own) and int(self.is_won_by(own).sum()) >= 4

    def mask(self, label: str) -> NDArray[np.bool_]:
        """The mask of a label at the photo's size, (H, W).

        Positive clicks of the label are inside, negative ones and other labels' positive ones outside; of clicks on
        one pixel the newest counts.
        """
        mask = np.zeros((self.height, self.width), bool)
        own = self.channels.of(label)
        if own:
            lead = self.lead(own)
            mask[self.view.box.slices] = (
                self.view.enlarge(lead) > 0 if self.guide is None else self.guide.positive(_scaled(lead))
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
        seen = [int(c) for c in np.unique(among._winner)]
        leads = np.stack([self._enlarge(among.lead([c])) for c in seen])
        out = np.zeros((self.height, self.width), np.uint8)
        out[self.view.box.slices] = np.array(seen, np.uint8)[leads.argmax(0)]
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
        inside = self.is_won_by(own)
        union = float(inside.sum() + probable[~inside].sum())
        return float(probable[inside].sum()) / union if union > 0 else 0.0

    def resample(self, view: View, out: NDArray[np.float32]) -> None:
        """Writes the network's probabilities as another view of the same photo sees them; ``out`` is (K, h', w')."""
        self._warp(self.probabilities if self.raw is None else _softmax(self.raw), view, out)

    def seen_from(self, view: View) -> NDArray[np.float32]:
        """Returns the logits (K, h', w') as another view of the same photo sees them; background beyond this one."""
        if view == self.view:
            return self.logits
        out = np.empty((len(self.logits), view.height // 2, view.width // 2), np.float32)
        self._warp(self.logits, view, out, beyond=-_BEYOND)
        out[0][(out <= -_BEYOND).all(0)] = _BEYOND
        return out

    def _warp(self, planes: NDArray[np.float32], view: View, out: NDArray[np.float32], beyond: float = 0.0) -> None:
        if view == self.view:
            out[:] = planes
            return
        (x0, y0), (x1, y1) = self.view.into(*view.out_of(0, 0)), self.view.into(*view.out_of(2, 2))
        step_x, step_y = (x1 - x0) / 2, (y1 - y0) / 2
        # Cell i of a view has its centre at 2i + 1 of its pixels.
        affine = np.array([[step_x, 0, (x0 + step_x - 1) / 2], [0, step_y, (y0 + step_y - 1) / 2]], np.float64)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        for channel, plane in enumerate(planes):
            out[channel] = cv2.warpAffine(plane, affine, out.shape[:0:-1], flags=flags, borderValue=beyond)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    e = np.exp(logits - logits.max(0))
    probabilities: NDArray[np.float32] = e / e.sum(0)
    return probabilities


def _scaled(lead: NDArray[np.float32]) -> NDArray[np.float32]:
    """A lead as the guide wants it, from -1 to 1."""
    scaled: NDArray[np.float32] = np.tanh(lead / 2)
    return scaled


def _stamp(mask: NDArray[np.bool_], click: Click, radius: int, value: bool) -> None:
    row, column = click.pixel(*mask.shape)
    rows = slice(max(row - radius, 0), row + radius + 1)
    columns = slice(max(column - radius, 0), column + radius + 1)
    mask[rows, columns] = value
