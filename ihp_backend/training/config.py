"""Everything that defines a training run, beside the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ihp_backend.data.augment import ViewConfig
from ihp_backend.network.parser import ParserConfig
from ihp_backend.simulation.sampling import SamplingConfig

_CHOICES = {"base_loss": ("ce", "focal"), "sp_loss": ("none", "pairs", "prototypes")}
_ANY = float("inf")
_LIMITS: dict[str, tuple[float, float]] = {
    "steps": (1, _ANY),
    "batch": (1, _ANY),
    "average": (0, 0.999999),
    "warmup": (1, _ANY),
    "lovasz_stride": (1, 16),
    "zoom": (1.4, 20),
    "validate_every": (1, _ANY),
    "seed": (0, _ANY),
    "turn": (0, 60),
    "shrink": (0, 3),
    "area": (1024, 2**24),
    "width": (8, 1024),
    "map_size": (0.5, 1000),
    "open_channels": (0, 64),
    "error_rounds": (0, 20),
    **dict.fromkeys(
        ("rate", "backbone_rate", "weight_decay", "sp_weight", "keep", "patience", "rare_classes"), (0.0, _ANY)
    ),
    **dict.fromkeys(
        ("balance", "drop_previous", "small_share", "detail", "whole", "neighbours", "everyone"), (0.0, 1.0)
    ),
    **dict.fromkeys(("drop_all", "some_parts", "more_clicks", "negative", "open_classes", "merged"), (0.0, 1.0)),
}
"""Least and greatest value of every number."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that defines a training run, beside the data.

    Attributes:
        steps: Optimiser steps.
        batch: Photos in a step.
        rate: Peak learning rate of the decoder (AdamW).
        backbone_rate: Peak learning rate of the backbone; 0 leaves it as it is, which takes less time.
        weight_decay: Decoupled weight decay.
        warmup: Steps of linear warm-up; a cosine to zero follows.
        average: Decay of the running average of the weights, which is what is kept.
        base_loss: ``ce`` or ``focal``, half of the loss; the other half is Lovasz-softmax.
        sp_loss: ``none``, ``pairs`` (reading 1) or ``prototypes`` (reading 2).
        sp_weight: Its weight.
        balance: Photos with rare classes are seen more often, see ``Batches``; 0: all equally often.
        rare_classes: Cross-entropy weighs rare classes more, by this power of their rarity; 0: all the same.
        drop_previous: Probability that the previous round's probabilities are not shown.
        small_share: This first share of the steps sees photos at half the area: twice as many for the same time.
        lovasz_stride: Lovasz-softmax looks at each so-many-th pixel of the logits in both directions.
        views: What part of the photos training sees.
        backgrounds: Folder of photos (.jpg) without people, put behind those whose opacity is known; empty: none.
        neighbours: Share of the training views in which somebody else stands beside the person, see ``Batches``.
        everyone: Share of the views in which a click means everyone in the photo: then the network sees what it
            predicts without a click as ``prev_mask``. Networks without ``previous`` cannot tell, and do without.
        validate_every: Steps between validations.
        patience: Stop after so many validations without a better score; 0 never stops early.
        last_layers: Only the decoder's layers behind the clicks learn: a fifth of the time, and a tenth of its weights.
        keep: Weight of staying with what the start weights say, see ``keep_loss``.
        frozen_norms: Batch norms keep the statistics that they start with: for small data sets.
        pretrained: Start a backbone of timm from timm's weights.
        seed: Makes the run repeatable.
        parser: The network.
        sampling: The simulated clicks.
    """

    steps: int = 3800
    batch: int = 8
    rate: float = 1.5e-3
    backbone_rate: float = 3e-4
    weight_decay: float = 1e-2
    warmup: int = 200
    average: float = 0.998
    base_loss: str = "ce"
    sp_loss: str = "prototypes"
    sp_weight: float = 0.1
    balance: float = 0.3
    rare_classes: float = 0.0
    drop_previous: float = 0.3
    small_share: float = 0.7
    lovasz_stride: int = 2
    backgrounds: str = ""
    neighbours: float = 0.12
    everyone: float = 0.25
    validate_every: int = 500
    patience: int = 0
    last_layers: bool = False
    keep: float = 0.0
    frozen_norms: bool = False
    pretrained: bool = False
    seed: int = 1
    views: ViewConfig = field(default_factory=ViewConfig)
    parser: ParserConfig = field(default_factory=ParserConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            ValueError: If one cannot be; the message names it, and what can be.
        """
        for options in (self, self.parser, self.sampling, self.views):
            for option in fields(options):
                _check(option.name, str(option.type), getattr(options, option.name))
        if self.rare_classes and self.base_loss != "ce":
            raise ValueError("rare_classes weighs cross-entropy; set base_loss to 'ce', or rare_classes to 0")

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> TrainConfig:
        """Reads the fields of a JSON file.

        Raises:
            ValueError: If a field is unknown or has a value that cannot be.
        """
        options = dict(options)
        parts = {name: options.pop(name, {}) for name in ("parser", "sampling", "views")}
        for name in ("detail", "zoom"):  # where configurations of older releases have them
            if name in options:
                parts["views"] = {name: options.pop(name), **parts["views"]}
        for name, value in parts.items():
            if not isinstance(value, dict):
                raise ValueError(f"{name} is {value!r}; expected an object of options")
        try:
            sampling = SamplingConfig.from_dict(parts["sampling"])
            views = ViewConfig(**parts["views"])
            return cls(views=views, parser=ParserConfig.from_dict(parts["parser"]), sampling=sampling, **options)
        except TypeError as error:
            raise ValueError(f"unknown training option ({error}); known: {', '.join(asdict(cls()))}") from error


def _check(name: str, kind: str, value: Any) -> None:
    if choices := _CHOICES.get(name):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
    elif kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}; expected true or false")
    elif name in _LIMITS:
        least, most = _LIMITS[name]
        numbers = (int,) if kind == "int" else (int, float)
        if isinstance(value, bool) or not isinstance(value, numbers) or not least <= value <= most:
            noun = "a whole number" if kind == "int" else "a number"
            between = f"of at least {least:g}" if most == _ANY else f"from {least:g} to {most:g}"
            raise ValueError(f"{name} is {value!r}; expected {noun} {between}")


@dataclass(frozen=True)
class FinetuneConfig:
    """How a version learns; by default in two minutes, after a few annotations. See ``THOROUGH``.

    Attributes:
        steps: Optimiser steps.
        batch: Photos in a step.
        rate: Peak learning rate of the decoder.
        backbone_rate: Of the backbone; 0 leaves it as it is, which takes half the time and forgets less.
        last_layers: Only the decoder's last layers learn, 19,000 of its weights.
        keep: Weight of predicting what was predicted before where no annotation contradicts, see ``keep_loss``.
        rehearsal: Photos of the base data that are rehearsed, at most.
        measured: Photos that are measured, at most, of the held-back ones and of the base check each.
        least_gain: Smallest mean gain of the photos that were measured that counts as better. Where they are too few
            to tell how sure it is, it must be as much greater as their mean is less sure: with one photo, four times.
        most_loss: Greatest loss of the base check's mIoU, from the base weights.
        seed: Source of all randomness.
    """

    steps: int = 60
    batch: int = 6
    rate: float = 1e-3
    backbone_rate: float = 0.0
    last_layers: bool = True
    keep: float = 10.0
    rehearsal: int = 60
    measured: int = 16
    least_gain: float = 0.002
    most_loss: float = 0.01
    seed: int = 1


THOROUGH = FinetuneConfig(steps=200, rate=5e-4, last_layers=False)
"""The whole decoder learns, for minutes: what *Start Training* does."""
