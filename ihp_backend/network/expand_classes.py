"""A network gets channels for custom classes: labels of a project that its schema does not know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ihp_backend.network.parser import HumanParser
from ihp_backend.parts import normalise


def expand_classes(parser: HumanParser, labels: Sequence[str]) -> HumanParser:
    """Returns a copy with a channel for each of these labels; the network is the same for all others.

    A new channel starts as a copy of an open-class channel: it follows clicks at once, as the label did through that
    channel. Channels that the network has already stay as they are. Labels that differ by case, hyphens or spaces only
    are one.

    Args:
        parser: The network.
        labels: Labels that shall have a channel.

    Raises:
        ValueError: If the schema knows one of them.
    """
    config = parser.config
    there = {normalise(label) for label in config.custom_classes}
    new = list({normalise(label): label for label in reversed(labels) if normalise(label) not in there}.values())[::-1]
    larger = HumanParser(replace(config, custom_classes=(*config.custom_classes, *new)))
    known = len(config.parts)
    open_channels = range(known, config.channels) or range(known)
    sources = [
        *range(known),
        *(open_channels[i % len(open_channels)] for i in range(len(new))),
        *range(known, config.channels),
    ]
    before, shapes = parser.state_dict(), larger.state_dict()
    larger.load_state_dict({name: _expanded(before[name], shapes[name].shape, sources) for name in shapes})
    return larger.train(parser.training)


def _expanded(values: Tensor, shape: torch.Size, sources: list[int]) -> Tensor:
    """Takes channels from their sources, along the axis that grows; on it, the channels come last."""
    for axis, (old, new) in enumerate(zip(values.shape, shape, strict=True)):
        if old != new:
            others = new - len(sources)
            picks = [*range(others), *(others + source for source in sources)]
            return values.index_select(axis, torch.tensor(picks, device=values.device))
    return values
