"""The human parser: an image, the clicks and what is known so far go in, logits of every part come out."""

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

SILENT = -30.0
"""Logit of a channel that nobody uses."""


@dataclass(frozen=True)
class ParserConfig:
    """Everything that a parser's constructor needs; stored beside the weights.

    Attributes:
        schema: Name of the part schema.
        own: Labels of one project that the schema does not know; their channels follow the schema's.
        backbone: ``mobilenet_v2``, or the name of a feature extractor of timm, where that is installed.
        spares: Channels for parts that the schema does not know: the clicks alone define them.
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
    own: tuple[str, ...] = ()
    backbone: str = "mobilenet_v2"
    spares: int = 4
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
        """Channels of maps and logits: the known parts, then the spare ones."""
        return len(self.parts) + self.spares

    @property
    def parts(self) -> Schema:
        """The parts that have a channel of their own: those of the schema, then the project's own."""
        return get_schema(self.schema).extended(self.own)

    @property
    def optional(self) -> range:
        """Channels of a project's own labels: silent where nobody asks for the label, so that the others win."""
        known = len(self.parts)
        return range(known - (len(self.own) if self.schema != OPEN.name else 0), known)

    def of(self, schema: Schema) -> ParserConfig:
        """Returns the same network for another schema: a published one, or the classes of a data set."""
        return replace(self, schema=schema.name, own=schema.names[1:] if schema.name == OPEN.name else ())

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields for a JSON file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Reads the fields of a JSON file.

        Raises:
            ValueError: If a field is unknown; the message lists the known ones.
        """
        known = set(cls.__dataclass_fields__)
        if unknown := set(fields) - known:
            raise ValueError(
                f"unknown parser option {', '.join(sorted(unknown))}; expected: {', '.join(sorted(known))}"
            )
        if fields.get("maps", cls.maps) not in ("gaussian", "disk"):
            raise ValueError(f"parser option maps is {fields['maps']!r}; expected gaussian or disk")
        return cls(**{**fields, "own": tuple(fields.get("own", ()))})


class ParserOutput(NamedTuple):
    """What the parser says: logits (N, K, H/2, W/2) and the embedding (N, 32, H/4, W/4), in which parts are alike."""

    logits: Tensor
    embedding: Tensor


class HumanParser(nn.Module):
    """Parses a person into named parts, guided by clicks.

    Channels: those of ``ParserConfig.parts`` in their order, then the spare ones.

    Attributes:
        prior: (K,) added to the logits of photos on which nothing is clicked or known, see ``training.calibration``.
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

    def forward(self, image: Tensor, maps: Tensor, previous: Tensor) -> ParserOutput:
        """Runs the network.

        Args:
            image: (N, 3, H, W) RGB in [-1, 1]; H and W multiples of 16.
            maps: (N, K, H, W) localization maps in [-1, 1].
            previous: (N, K, H/2, W/2) probabilities of the last round or accepted masks; zeros if none.

        Returns:
            Logits at half the size, and the embedding. Spare channels without click or previous mask are silent.
        """
        return self.decode(self.encode(image, maps), maps, previous)

    def encode(self, image: Tensor, maps: Tensor) -> list[Tensor]:
        """The first half of ``forward``: the features. Without early fusion the image alone decides them."""
        seen = torch.cat((image, self._seen(maps)), 1) if self.config.early_fusion else image
        features: list[Tensor] = self.backbone(seen)
        return features

    def decode(self, features: Sequence[Tensor], maps: Tensor, previous: Tensor) -> ParserOutput:
        """The second half of ``forward``: from the features and the clicks to logits."""
        seen = self._seen(maps)
        coarse = F.avg_pool2d(seen, MAP_STRIDE)
        output = ParserOutput(*self.decoder(features, seen, previous, coarse))
        clicked = coarse if self.config.semantic else F.avg_pool2d(maps, MAP_STRIDE)
        untouched = (clicked.abs().amax((1, 2, 3)) <= 0) & (previous.amax((1, 2, 3)) <= 0)
        logits = output.logits + (untouched[:, None] * self.prior)[:, :, None, None]
        return output._replace(logits=logits.masked_fill(self._unused(clicked, previous), SILENT))

    def _seen(self, maps: Tensor) -> Tensor:
        return maps if self.config.semantic else maps.amax(1, keepdim=True).expand_as(maps)

    def _unused(self, maps: Tensor, previous: Tensor) -> Tensor:
        spares = slice(self.config.channels - self.config.spares, None)
        unused = torch.zeros(maps.shape[:2], dtype=torch.bool, device=maps.device)
        unused[:, spares] = (maps[:, spares].amax((2, 3)) <= 0) & (previous[:, spares].amax((2, 3)) < 0.5)
        return unused[:, :, None, None]
