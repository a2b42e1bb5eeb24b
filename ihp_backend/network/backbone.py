"""MobileNetV2 trunk with its batch norms folded into the convolutions: an image becomes a feature pyramid.

Source: Sandler et al., "MobileNetV2", CVPR 2018; output stride 16 by dilation as in DeepLab v3 (Chen et al., 2017).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# (expansion, channels in, channels out, stride, dilation) of each inverted residual block.
_BLOCKS = (
    (1, 32, 16, 1, 1),
    (6, 16, 24, 2, 1),
    (6, 24, 24, 1, 1),
    (6, 24, 32, 2, 1),
    (6, 32, 32, 1, 1),
    (6, 32, 32, 1, 1),
    (6, 32, 64, 2, 1),
    (6, 64, 64, 1, 1),
    (6, 64, 64, 1, 1),
    (6, 64, 64, 1, 1),
    (6, 64, 96, 1, 1),
    (6, 96, 96, 1, 1),
    (6, 96, 96, 1, 1),
    (6, 96, 160, 1, 1),
    (6, 160, 160, 1, 2),
    (6, 160, 160, 1, 2),
    (6, 160, 320, 1, 2),
)
_TAPS = {0: 2, 2: 4, 5: 8, 12: 16, 16: 16}


class SameConv(nn.Conv2d):
    """3x3 convolution with TensorFlow's SAME padding: the odd pixel goes to the right and the bottom.

    The start weights were trained with it; symmetric padding would shift every stride-2 layer by a pixel.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1, groups: int = 1) -> None:
        symmetric = dilation if stride == 1 else 0
        super().__init__(
            inputs, outputs, 3, stride=stride, padding=symmetric, dilation=dilation, groups=groups, bias=True
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        if self.stride[0] == 2:
            height, width = x.shape[-2:]
            x = F.pad(x, (width % 2, 1, height % 2, 1))
        y: Tensor = super().forward(x)
        return y


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection; adds its input where the shapes allow."""

    def __init__(self, expansion: int, inputs: int, outputs: int, stride: int, dilation: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = nn.Conv2d(inputs, inner, 1) if expansion > 1 else None
        self.depthwise = SameConv(inner, inner, stride=stride, dilation=dilation, groups=inner)
        self.project = nn.Conv2d(inner, outputs, 1)
        self.adds_input = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        projected: Tensor = self.project(F.relu6(self.depthwise(y)))
        return x + projected if self.adds_input else projected


class MobileNetV2(nn.Module):
    """Feature pyramid of an image.

    Attributes:
        channels: Channels of the features that ``forward`` returns.
        strides: Their strides; an input of any size gives ceil(size / stride).
    """

    channels = (16, 24, 32, 96, 320)
    strides = (2, 4, 8, 16, 16)

    def __init__(self, extra_inputs: int = 0) -> None:
        """Makes the trunk; ``extra_inputs`` channels beside RGB enter the stem."""
        super().__init__()
        self.stem = SameConv(3 + extra_inputs, 32, stride=2)
        self.blocks = nn.ModuleList(InvertedResidual(*block) for block in _BLOCKS)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps (N, 3 + extra_inputs, H, W) float, RGB in [-1, 1] first, to float features.

        Returns:
            For each of ``channels`` and ``strides``, (N, channels, ceil(H / stride), ceil(W / stride)).
        """
        x = F.relu6(self.stem(x))
        features = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in _TAPS:
                features.append(x)
        return features

    def load_image_weights(self, weights: dict[str, Tensor]) -> None:
        """Loads weights of a trunk that sees RGB only.

        The stem's other inputs start small but not at zero: from zero, the network learns late to follow clicks.
        """
        stem = torch.randn_like(self.stem.weight) * 0.05
        stem[:, :3] = weights["stem.weight"]
        self.load_state_dict({**weights, "stem.weight": stem})
