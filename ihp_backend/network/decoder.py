"""From a feature pyramid and the clicks to logits: light fusion at the strides 16, 8, 4 and 2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _pointwise(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class SeparableConv(nn.Module):
    """Depthwise 5x5 and pointwise convolution, added to the input where the channels agree."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            inputs, inputs, 5, padding=2 * dilation, dilation=dilation, groups=inputs, bias=False
        )
        self.norm: nn.Module = nn.BatchNorm2d(inputs)
        self.pointwise = _pointwise(inputs, outputs)
        self.adds_input = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, inputs, h, w) to (N, outputs, h, w)."""
        y: Tensor = self.pointwise(self.norm(self.depthwise(x)))
        return x + y if self.adds_input else y


class ClickPyramid(nn.Module):
    """Embeds localization maps and the previous mask at the strides 4, 8 and 16."""

    def __init__(self, channels: int, width: int, *, uses_previous: bool) -> None:
        super().__init__()
        self.maps = nn.Conv2d(channels, width, 4, stride=4)
        self.previous = nn.Conv2d(channels, width, 2, stride=2, bias=False) if uses_previous else None
        self.to8 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.to16 = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, maps: Tensor, prev_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps localization maps and the previous mask to features of ``width`` channels.

        Args:
            maps: (N, K, H, W) float in [-1, 1].
            prev_mask: (N, K, H/2, W/2) float in [0, 1].

        Returns:
            (N, width, H/4, W/4), (N, width, H/8, W/8) and (N, width, H/16, W/16), at least 0.
        """
        at4 = self.maps(maps)
        if self.previous is not None:
            at4 = at4 + self.previous(prev_mask)
        at4 = F.relu(at4)
        at8 = F.relu(self.to8(at4))
        return at4, at8, F.relu(self.to16(at8))


MAP_STRIDE = 4
"""Stride of the averaged localization maps that the prototypes are taken with: that of the embedding."""


def prototype_similarity(features: Tensor, maps: Tensor) -> Tensor:
    """Compares every place with the places that were clicked.

    The prototype of a part is the mean feature under its positive clicks.

    Args:
        features: (N, D, h, w) float.
        maps: (N, K, H, W) float localization maps in [-1, 1], H and W multiples of h and w.

    Returns:
        (N, K, h, w) float, the cosine to each part's prototype in [-1, 1]; 0 for parts without a positive click.
    """
    n, _, h, w = features.shape
    stride = maps.shape[-1] // w
    weights = F.avg_pool2d(maps, stride).clamp(min=0).flatten(2)
    features = F.normalize(features.flatten(2), dim=1)
    prototypes = F.normalize(torch.bmm(weights, features.transpose(1, 2)), dim=2)
    return torch.bmm(prototypes, features).view(n, -1, h, w)


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class ClickDecoder(nn.Module):
    """Fuses features, clicks and the previous mask from coarse to fine.

    ``fuses_clicks=False`` leaves the clicks to the network's input alone (the paper's early fusion).
    """

    def __init__(
        self,
        channels: int,
        features: Sequence[int],
        *,
        width: int = 64,
        fuses_clicks: bool = True,
        uses_previous: bool = True,
        uses_prototypes: bool = True,
    ) -> None:
        super().__init__()
        f2, f4, f8, f16, deep = features
        clicked = 48 if fuses_clicks or uses_previous else 0
        self.fuses_clicks = fuses_clicks
        self.clicks = ClickPyramid(channels, clicked, uses_previous=uses_previous) if clicked else None
        self.deep = _pointwise(deep, 2 * width)
        self.scene = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(2 * width, 2 * width, 1), nn.ReLU())
        self.at16 = nn.Sequential(
            _pointwise(2 * width + f16 + clicked, 2 * width),
            SeparableConv(2 * width, 2 * width),
            SeparableConv(2 * width, 2 * width, dilation=2),
        )
        wide = 3 * width // 2
        self.at8 = nn.Sequential(
            _pointwise(2 * width + f8 + clicked, wide), SeparableConv(wide, wide), SeparableConv(wide, wide)
        )
        self.at4 = nn.Sequential(
            _pointwise(wide + f4 + clicked, width), SeparableConv(width, width), SeparableConv(width, width)
        )
        self.embedding = nn.Conv2d(width, 32, 1)
        self.uses_prototypes = uses_prototypes
        self.similar = nn.Sequential(
            _pointwise(width + (channels if uses_prototypes else 0), width), SeparableConv(width, width)
        )
        self.coarse = nn.Conv2d(width, channels, 1)
        self.narrow = _pointwise(width, 24)
        self.at2 = SeparableConv(24 + f2, 40)
        self.fine = nn.Conv2d(40, channels, 1)

    @property
    def last_layers(self) -> tuple[nn.Module, ...]:
        """The layers behind the clicks and the embedding, up to the logits."""
        return self.similar, self.coarse, self.narrow, self.at2, self.fine

    def forward(
        self, features: Sequence[Tensor], maps: Tensor, prev_mask: Tensor, coarse_maps: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Fuses them.

        Args:
            features: Those of the backbone, (N, channels, H / stride, W / stride) float for each of its strides.
            maps: (N, K, H, W) float localization maps in [-1, 1].
            prev_mask: (N, K, H/2, W/2) float in [0, 1].
            coarse_maps: (N, K, H/4, W/4) float, the maps averaged over ``MAP_STRIDE``.

        Returns:
            Logits (N, K, H/2, W/2) and the embedding (N, 32, H/4, W/4), float, any value.
        """
        f2, f4, f8, f16, deep = features
        clicks = self.clicks(maps if self.fuses_clicks else torch.zeros_like(maps), prev_mask) if self.clicks else None

        def with_clicks(level: int, *tensors: Tensor) -> Tensor:
            return torch.cat((*tensors, clicks[level]) if clicks is not None else tensors, 1)

        deep = self.deep(deep)
        deep = deep + self.scene(deep)
        x = self.at16(with_clicks(2, deep, f16))
        x = self.at8(with_clicks(1, _enlarge(x, f8), f8))
        x = self.at4(with_clicks(0, _enlarge(x, f4), f4))
        embedding = self.embedding(x)
        if self.uses_prototypes:
            x = torch.cat((x, prototype_similarity(embedding, coarse_maps)), 1)
        x = self.similar(x)
        precise = self.fine.weight.dtype  # the last layers may be more precise than the rest
        logits = _enlarge(self.coarse(x.to(precise)), f2)
        x = self.at2(torch.cat((_enlarge(self.narrow(x), f2), f2), 1))
        return logits + self.fine(x.to(precise)), embedding
