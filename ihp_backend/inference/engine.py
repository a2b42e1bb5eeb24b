"""Runs the network on views of photos. Features that do not depend on clicks are computed once for a view and kept."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ihp_backend.cache import LoadingCache
from ihp_backend.geometry import View
from ihp_backend.inference.batching import Batching
from ihp_backend.network.click_maps import Point, localization_maps
from ihp_backend.network.folding import folded
from ihp_backend.network.parser import HumanParser
from ihp_backend.network.precision import is_bf16_faster
from ihp_backend.network.preprocessing import to_input

logger = logging.getLogger(__name__)

_Output = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Logits (K, h/2, w/2) of a view and the embedding (D, h/4, w/4)."""

FEATURE_CACHE_MB = 48
"""Memory for features; a view takes about 2 MB with the shipped network, 4 in float32."""


_BATCH = 16
"""Views that a GPU computes at once, at most."""


class Engine:
    """One network, ready to run. May be shared by threads; on a GPU, what they ask at the same time is one batch.

    Attributes:
        config: The network's.
        features: The features that are kept, by photo and view.
    """

    def __init__(
        self, parser: HumanParser, *, device: str = "cpu", cache_mb: int = FEATURE_CACHE_MB, batch: int = 0
    ) -> None:
        """Takes a network.

        Args:
            parser: The network.
            device: A torch device.
            cache_mb: Memory for features, in MB; 0 keeps none.
            batch: Views that are computed at once, at most; 0: 16 on a GPU, 1 on a CPU, where more are no faster.
        """
        self.device = torch.device(device)
        self.dtype = torch.bfloat16 if is_bf16_faster(self.device) else torch.float32
        self.parser = folded(parser).to(self.device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for head in (self.parser.decoder.coarse, self.parser.decoder.fine):
            head.float()  # the edge of a mask is where two logits are equal
        self.config = parser.config
        most = batch or (_BATCH if self.device.type == "cuda" else 1)
        self._encoding = Batching(self._encode_batch, most) if most > 1 else None
        self._decoding = Batching(self._decode_batch, most) if most > 1 else None
        self.features: LoadingCache[tuple[str, View], Sequence[Tensor]] = LoadingCache(cache_mb * 2**20, _bytes_of)

    @property
    def keeps_features(self) -> bool:
        """Whether features are independent of the clicks, so that to compute them ahead helps."""
        return not self.config.early_fusion

    def encode(
        self, image: NDArray[np.uint8], view: View, key: str | None, *, mirrored: bool = False
    ) -> Sequence[Tensor]:
        """Returns the features of a view, kept ones if there are; only for networks that keep features.

        Args:
            image: (H, W, 3) uint8 RGB.
            view: Which part of it.
            key: Names the image; ``None`` keeps nothing.
            mirrored: Of the view's mirror image; they are not kept.
        """

        def encode() -> Sequence[Tensor]:
            pixels = self._pixels(image, view, mirrored)
            if self._encoding is None:
                return self._encode_batch([pixels])[0]
            return self._encoding.ask(pixels.shape, pixels)

        return encode() if key is None or mirrored else self.features.get((key, view), encode)

    def run(
        self,
        image: NDArray[np.uint8],
        view: View,
        points: Sequence[Point],
        prev_mask: NDArray[np.float32],
        key: str | None = None,
        *,
        mirrored: bool = False,
    ) -> _Output:
        """Runs the network on a view.

        Args:
            image: (H, W, 3) uint8 RGB.
            view: Which part of it.
            points: Clicks in the view's pixels.
            prev_mask: (K, h/2, w/2) probabilities of the last round and accepted masks, 0 to 1.
            key: Names the image; ``None`` keeps nothing.
            mirrored: Run on the mirror image of the view; the clicks, ``prev_mask`` and the answer are mirrored, too.

        Returns:
            Logits (K, h/2, w/2) and the embedding (D, h/4, w/4).

        Where a GPU's memory does not suffice, kept features are given up for it; then the CPU does this view.
        """
        try:
            return self._run(image, view, points, prev_mask, key, mirrored)
        except torch.OutOfMemoryError as error:
            logger.warning("the memory of %s does not suffice, kept features are given up: %s", self.device, error)
        self.forget()
        try:
            return self._run(image, view, points, prev_mask, key, mirrored)
        except torch.OutOfMemoryError as error:
            logger.warning("the memory of %s does not suffice, so the CPU answers: %s", self.device, error)
        return self._on_cpu._run(image, view, points, prev_mask, None, mirrored)

    def forget(self) -> None:
        """Gives up all features that are kept, and their memory."""
        self.features.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @cached_property
    def _on_cpu(self) -> Engine:
        engine = copy.copy(self)
        engine.device = torch.device("cpu")
        # Each tensor goes to the CPU before the network around it is copied: the GPU has no room for a copy.
        parameters = {id(p): nn.Parameter(p.detach().cpu(), requires_grad=False) for p in self.parser.parameters()}
        buffers = {id(b): b.detach().cpu() for b in self.parser.buffers()}
        engine.parser = copy.deepcopy(self.parser, {**parameters, **buffers})
        engine.features = LoadingCache(0, _bytes_of)
        engine._encoding = engine._decoding = None
        return engine

    def _run(
        self,
        image: NDArray[np.uint8],
        view: View,
        points: Sequence[Point],
        prev_mask: NDArray[np.float32],
        key: str | None,
        mirrored: bool,
    ) -> _Output:
        config = self.config
        drawn = localization_maps(
            points, config.channels, view.height, view.width, kind=config.maps, size=config.map_size
        )
        maps, shown = self.tensor(drawn), self.tensor(prev_mask)
        if self.keeps_features:
            kept = self.encode(image, view, key, mirrored=mirrored)
        else:
            with torch.inference_mode():
                kept = self.parser.encode(self._pixels(image, view, mirrored), maps)
        asked = (kept, maps, shown)
        if self._decoding is None:
            return self._decode_batch([asked])[0]
        return self._decoding.ask(maps.shape, asked)

    @torch.inference_mode()
    def _encode_batch(self, pixels: Sequence[Tensor]) -> list[Sequence[Tensor]]:
        batch = _joined(pixels)
        features = self.parser.encode(batch, batch)  # the maps are not looked at
        if len(pixels) == 1:
            return [features]
        return [[f[i : i + 1].clone(memory_format=torch.channels_last) for f in features] for i in range(len(pixels))]

    @torch.inference_mode()
    def _decode_batch(self, asked: Sequence[tuple[Sequence[Tensor], Tensor, Tensor]]) -> list[_Output]:
        features = [_joined(level) for level in zip(*(kept for kept, _, _ in asked), strict=True)]
        maps, prev_mask = _joined([m for _, m, _ in asked]), _joined([p for _, _, p in asked])
        output = self.parser.decode(features, maps, prev_mask)
        logits = output.logits.float().cpu().numpy()
        return list(zip(logits, output.embedding.float().cpu().numpy(), strict=True))

    def no_prev_mask(self, view: View) -> NDArray[np.float32]:
        """Returns an empty ``prev_mask``, (K, h/2, w/2) float32 zeros, to be filled in."""
        # Channels last in memory, as the network wants it.
        return np.zeros((*view.grid, self.config.channels), np.float32).transpose(2, 0, 1)

    def _pixels(self, image: NDArray[np.uint8], view: View, mirrored: bool) -> Tensor:
        pixels = view.crop(image)[:, ::-1] if mirrored else view.crop(image)
        return self.tensor(to_input(pixels))

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """A batch of one (1, K, H, W) from (K, H, W), channels last in memory and by its strides.

        A stride of the batch that does not fit, though it means nothing, sends torch to code ten times slower.
        """
        tensor = torch.from_numpy(array.transpose(1, 2, 0)).to(self.device, self.dtype)
        return tensor.contiguous()[None].permute(0, 3, 1, 2)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _bytes_of(features: Sequence[Tensor]) -> int:
    return sum(f.numel() * f.element_size() for f in features)
