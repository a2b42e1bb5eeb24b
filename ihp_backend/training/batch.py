"""A training batch, and what the simulated annotator does with it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ihp_backend.network.click_maps import Point, localization_maps
from ihp_backend.network.parser import ParserConfig
from ihp_backend.simulation.sampling import SamplingConfig, error_clicks


@dataclass
class Batch:
    """A training batch.

    Attributes:
        names: Which photos.
        images: (N, 3, H, W) float32 in [-1, 1].
        labels: (N, H, W) int64 channels; 255 is ignored.
        points: For each photo its clicks.
        accepted: (N, K, H/2, W/2) float32: masks that the annotator has accepted already.
        no_clicks_allowed: Of each photo whether no click may come: with one, the labels would be others.
        everyone: Of each photo whether its clicks mean everyone in it. Then ``prev_mask`` starts with what the network
            predicts without a click; where a click means one person it does not.
        unknown: (N, K) bool: channels that nobody asks for, see ``Sample.unknown``.
        error_rounds: How often the network answers and is corrected before the pass that it learns from.
        rng: Source of the randomness that the training step still needs.
    """

    names: list[str]
    images: Tensor
    labels: Tensor
    points: list[list[Point]]
    accepted: Tensor
    no_clicks_allowed: list[bool]
    everyone: list[bool]
    unknown: Tensor
    error_rounds: int
    rng: np.random.Generator

    def pin_memory(self) -> Batch:
        """Returns the batch in memory from which a GPU copies while it computes; torch's loader asks for it."""
        pinned = {name: getattr(self, name).pin_memory() for name in ("images", "labels", "accepted", "unknown")}
        return replace(self, **pinned)

    def click_maps(self, parser: ParserConfig) -> Tensor:
        """Draws the clicks: (N, K, H, W) float32 localization maps, channels last in memory."""
        height, width = self.images.shape[-2:]
        maps = [
            localization_maps(p, parser.channels, height, width, kind=parser.maps, size=parser.map_size)
            for p in self.points
        ]
        return torch.from_numpy(np.stack(maps)).contiguous(memory_format=torch.channels_last)

    def click_errors(self, logits: Tensor, sampling: SamplingConfig) -> None:
        """Adds clicks where the network is wrong, up to half a click a part.

        Args:
            logits: (N, K, H/2, W/2) of the network.
            sampling: How clicks are drawn.
        """
        predictions = logits.argmax(1).to(torch.uint8).cpu().numpy()
        truths = self.labels[:, ::2, ::2].to(torch.uint8).numpy()
        for i, (predicted, truth) in enumerate(zip(predictions, truths, strict=True)):
            if self.no_clicks_allowed[i] or (not self.points[i] and self.rng.random() < 0.7):
                continue  # most photos without clicks stay so
            count = 1 + int(self.rng.integers(max(1, len(np.unique(truth)) // 2)))
            self.points[i] += error_clicks(predicted, truth, count, self.rng, sampling, scale=2.0)

    def labels_at_half_size(self) -> Tensor:
        """Picks one of each 2x2 labels, at random which: no shift on average. Returns (N, H/2, W/2)."""
        row, column = (int(i) for i in self.rng.integers(2, size=2))
        return self.labels[:, row::2, column::2]
