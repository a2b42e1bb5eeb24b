"""Any feature extractor of timm as the trunk, for whoever has a GPU: `pip install timm`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TimmBackbone(nn.Module):
    """Feature pyramid of an image, in the layout of ``MobileNetV2``: strides 2, 4, 8, 16 and 16.

    A small stem makes the features of stride 2, which many networks lack. The deepest features, mostly of stride 32,
    are enlarged to stride 16.

    Attributes:
        channels: Channels of the features that ``forward`` returns.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, extra_inputs: int = 0, *, pretrained: bool = False) -> None:
        """Makes the trunk.

        Args:
            name: timm's name of a network that can give features of the strides 4, 8, 16 and 32.
            extra_inputs: Channels beside RGB that enter the first convolution.
            pretrained: Load timm's weights; they are downloaded.

        Raises:
            ValueError: If timm is missing, does not know the network, or the network has other strides.
        """
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise ValueError(f"backbone {name!r} needs timm ({error}): pip install timm torchvision") from error
        try:
            self.net: Any = timm.create_model(name, pretrained=pretrained, features_only=True)
        except (RuntimeError, ValueError, AttributeError) as error:
            raise ValueError(f"timm cannot make features of {name!r}: {error}") from error
        strides = [int(s) for s in self.net.feature_info.reduction()]
        if strides[-4:] != [4, 8, 16, 32]:
            raise ValueError(f"timm's {name!r} has features of the strides {strides}; expected 4, 8, 16 and 32 at last")
        config = self.net.pretrained_cfg if hasattr(self.net, "pretrained_cfg") else self.net.default_cfg
        self.register_buffer("mean", torch.tensor(config["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).view(1, 3, 1, 1), persistent=False)
        if extra_inputs:
            _widen(self.net, config["first_conv"], extra_inputs)
        self.stem = nn.Sequential(
            nn.Conv2d(3 + extra_inputs, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.channels = (16, *(int(c) for c in self.net.feature_info.channels()[-4:]))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps (N, 3 + extra_inputs, H, W) float, RGB in [-1, 1] first, to float features at strides 2, 4, 8, 16, 16.

        Returns:
            For each of ``channels`` and its stride, (N, channels, H / stride, W / stride).
        """
        rgb = ((x[:, :3] * 0.5 + 0.5) - self.mean) / self.std
        f4, f8, f16, deep = self.net(torch.cat((rgb, x[:, 3:]), 1))[-4:]
        deep = F.interpolate(deep, size=f16.shape[-2:], mode="bilinear", align_corners=False)
        return [self.stem(x), f4, f8, f16, deep]


def _widen(net: nn.Module, name: str, extra: int) -> None:
    """Gives the first convolution more inputs: small but not zero, or the network learns late to follow clicks."""
    modules = dict(net.named_modules())
    # features_only renames nested modules; a stem may be a sequence that begins with the convolution.
    paths = [path + tail for path in (name, name.replace(".", "_")) for tail in ("", ".0")]
    found = next((path for path in paths if isinstance(modules.get(path), nn.Conv2d)), None)
    if found is None:
        raise ValueError(f"the first convolution {name!r} was not found")
    module = net.get_submodule(found)
    assert isinstance(module, nn.Conv2d)
    wide = nn.Conv2d(
        3 + extra,
        module.out_channels,
        module.kernel_size,  # type: ignore[arg-type]
        module.stride,  # type: ignore[arg-type]
        module.padding,  # type: ignore[arg-type]
        bias=module.bias is not None,
    )
    with torch.no_grad():
        wide.weight.normal_(0, 0.02)
        wide.weight[:, :3] = module.weight
        if module.bias is not None and wide.bias is not None:
            wide.bias.copy_(module.bias)
    parent, _, child = found.rpartition(".")
    setattr(net.get_submodule(parent), child, wide)
