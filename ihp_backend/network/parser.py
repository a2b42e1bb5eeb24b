"""The human parser: from a photo, the localization maps of the clicks and the previous mask to logits of all parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ihp_backend.network.backbone import MobileNetV2
from ihp_backend.network.click_maps import MapKind
from ihp_backend.network.decoder import MAP_STRIDE, ClickDecoder
from ihp_backend.network.timm_backbone import TimmBackbone
from ihp_backend.parts import OPEN, Schema, get_schema

MASKED_LOGIT = -10_000.0
"""Logit of a channel that no label of the request uses: below any that the network makes. On photos unlike those of the
training, all of them may be near -40."""
MASKED_IN_TRAINING = -30.0
"""The same in training, where a part may be true whose channel is masked: that must not outweigh all the rest."""

_RENAMED = {"spares": "open_channels", "own": "custom_classes"}
"""Options as older releases have written them into info.json, and their names today."""


@dataclass(frozen=True)
class ParserConfig:
    """Everything that a parser's constructor needs; stored beside the weights.

    Attributes:
        schema: Name of the part schema.
        custom_classes: Labels of one project that the schema does not know; their channels follow the schema's.
        backbone: ``mobilenet_v2``, or the name of a feature extractor of timm, where that is installed.
        open_channels: Open-class channels, for labels without a class of their own: the clicks alone define them.
        maps: Shape of a click's blob.
        map_size: Its size in working pixels, see ``localization_maps``.
        semantic: Each part has a map of its own. Without, all clicks share one map, as in tools for one object.
        early_fusion: Localization maps are concatenated with RGB as the input, as in the paper. Without, a photo's
            features do not depend on the clicks: they are computed once and kept.
        late_fusion: The decoder sees the maps, too, at the strides 4, 8 and 16.
        previous: The decoder sees the previous round's probabilities.
        prototypes: The decoder sees how similar each place is to the clicked ones.
        width: Channels of the decoder at stride 4.
        area: Working size in pixels, height times width, that the weights were trained for.
    """

    schema: str = "lip"
    custom_classes: tuple[str, ...] = ()
    backbone: str = "mobilenet_v2"
    open_channels: int = 4
    maps: MapKind = "gaussian"
    map_size: float = 10.0
    semantic: bool = True
    early_fusion: bool = False
    late_fusion: bool = True
    previous: bool = True
    prototypes: bool = True
    width: int = 64
    area: int = 512 * 256

    @property
    def channels(self) -> int:
        """Channels of maps and logits: those of ``parts``, then the open-class channels."""
        return len(self.parts) + self.open_channels

    @property
    def parts(self) -> Schema:
        """The parts that have a channel: those of the schema, then the custom classes."""
        return get_schema(self.schema).extended(self.custom_classes)

    @property
    def optional(self) -> range:
        """Channels of custom classes: their logits are masked where nobody asks for the label."""
        known = len(self.parts)
        return range(known - (len(self.custom_classes) if self.schema != OPEN.name else 0), known)

    def of(self, schema: Schema) -> ParserConfig:
        """Returns the same network for another schema: a published one, or the classes of a data set."""
        return replace(self, schema=schema.name, custom_classes=schema.names[1:] if schema.name == OPEN.name else ())

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields for a JSON file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Reads the fields of a JSON file, of an older release too.

        Raises:
            ValueError: If a field is unknown; the message lists the known ones.
        """
        fields = {_RENAMED.get(name, name): value for name, value in fields.items()}
        known = set(cls.__dataclass_fields__)
        if unknown := set(fields) - known:
            raise ValueError(
                f"unknown parser option {', '.join(sorted(unknown))}; expected: {', '.join(sorted(known))}"
            )
        if fields.get("maps", cls.maps) not in ("gaussian", "disk"):
            raise ValueError(f"parser option maps is {fields['maps']!r}; expected gaussian or disk")
        return cls(**{**fields, "custom_classes": tuple(fields.get("custom_classes", ()))})


class ParserOutput(NamedTuple):
    """The network's output.

    Attributes:
        logits: (N, K, H/2, W/2) float, any value; the channel with the greatest one is the part.
        embedding: (N, 32, H/4, W/4) float, features that are alike within a part: prototypes and the SP-loss compare
            them.
    """

    logits: Tensor
    embedding: Tensor


class HumanParser(nn.Module):
    """Parses a person into named parts, guided by clicks.

    The K channels are those of ``ParserConfig.parts`` in their order, then the open-class channels.

    Attributes:
        prior: (K,) float, added to the logits of photos without a click and a previous mask, see
            ``training.calibration``.
    """

    prior: Tensor

    def __init__(self, config: ParserConfig | None = None, *, pretrained: bool = False) -> None:
        """Makes the network; ``pretrained`` loads timm's weights of a backbone of timm.

        Raises:
            ValueError: If the schema or the backbone cannot be had.
        """
        super().__init__()
        self.config = config or ParserConfig()
        channels = self.config.channels
        self.register_buffer("prior", torch.zeros(channels))
        extra = channels if self.config.early_fusion else 0
        self.backbone: MobileNetV2 | TimmBackbone
        if self.config.backbone == "mobilenet_v2":
            self.backbone = MobileNetV2(extra)
        else:
            self.backbone = TimmBackbone(self.config.backbone, extra, pretrained=pretrained)
        self.decoder = ClickDecoder(
            channels,
            self.backbone.channels,
            width=self.config.width,
            fuses_clicks=self.config.late_fusion,
            uses_previous=self.config.previous,
            uses_prototypes=self.config.prototypes,
        )

    def forward(self, image: Tensor, maps: Tensor, prev_mask: Tensor) -> ParserOutput:
        """Runs the network.

        Args:
            image: (N, 3, H, W) float RGB in [-1, 1]; H and W multiples of 16.
            maps: (N, K, H, W) float localization maps in [-1, 1].
            prev_mask: (N, K, H/2, W/2) float in [0, 1]: probabilities of the last round, or accepted masks; zeros if
                there are none.

        Returns:
            Logits (N, K, H/2, W/2) and the embedding (N, D, H/4, W/4). The logits of an open-class channel without a
            click and without a previous mask are ``MASKED_LOGIT``.
        """
        return self.decode(self.encode(image, maps), maps, prev_mask)

    def encode(self, image: Tensor, maps: Tensor) -> list[Tensor]:
        """The first half of ``forward``: from (N, 3, H, W) and (N, K, H, W) to the features at the backbone's strides.

        Without early fusion they depend on the image alone.
        """
        seen = torch.cat((image, self._seen(maps)), 1) if self.config.early_fusion else image
        features: list[Tensor] = self.backbone(seen)
        return features

    def decode(self, features: Sequence[Tensor], maps: Tensor, prev_mask: Tensor) -> ParserOutput:
        """The second half of ``forward``, and all that runs again at each click.

        Args:
            features: Those of ``encode``, (N, C, H/s, W/s) for each stride s of the backbone.
            maps: (N, K, H, W) float in [-1, 1].
            prev_mask: (N, K, H/2, W/2) float in [0, 1].

        Returns:
            See ``ParserOutput``. Logits of open-class channels without a click or a mask are ``MASKED_LOGIT``.
        """
        seen = self._seen(maps)
        coarse = F.avg_pool2d(seen, MAP_STRIDE)
        output = ParserOutput(*self.decoder(features, seen, prev_mask, coarse))
        clicked = coarse if self.config.semantic else F.avg_pool2d(maps, MAP_STRIDE)
        untouched = (clicked.abs().amax((1, 2, 3)) <= 0) & (prev_mask.amax((1, 2, 3)) <= 0)
        logits = output.logits + (untouched[:, None] * self.prior)[:, :, None, None]
        masked = MASKED_IN_TRAINING if self.training else MASKED_LOGIT
        return output._replace(logits=logits.masked_fill(self._unused(clicked, prev_mask), masked))

    def _seen(self, maps: Tensor) -> Tensor:
        return maps if self.config.semantic else maps.amax(1, keepdim=True).expand_as(maps)

    def _unused(self, maps: Tensor, prev_mask: Tensor) -> Tensor:
        open_channels = slice(self.config.channels - self.config.open_channels, None)
        unused = torch.zeros(maps.shape[:2], dtype=torch.bool, device=maps.device)
        unused[:, open_channels] = (maps[:, open_channels].amax((2, 3)) <= 0) & (
            prev_mask[:, open_channels].amax((2, 3)) < 0.5
        )
        return unused[:, :, None, None]
