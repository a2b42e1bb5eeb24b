"""Batch norms folded into the convolutions before them: the same network, faster."""

from __future__ import annotations

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ihp_backend.network.decoder import SeparableConv
from ihp_backend.network.parser import HumanParser


def folded(parser: HumanParser) -> HumanParser:
    """Returns a copy for inference, in evaluation mode, in which every batch norm is part of a convolution."""
    parser = copy.deepcopy(parser).eval()
    for module in parser.modules():
        if isinstance(module, SeparableConv) and isinstance(module.norm, nn.BatchNorm2d):
            module.depthwise, module.norm = fuse_conv_bn_eval(module.depthwise, module.norm), nn.Identity()
        elif isinstance(module, nn.Sequential):
            for i, (first, second) in enumerate(pairwise(list(module))):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    module[i], module[i + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return parser
