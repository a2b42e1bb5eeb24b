"""Weights that a training starts from."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ihp_backend.network.backbone import MobileNetV2
from ihp_backend.network.parser import HumanParser
from ihp_backend.training.run_folder import TrainerError

log = logging.getLogger(__name__)


def load_start(parser: HumanParser, path: Path, *, forget_clicks: bool = False) -> None:
    """Loads weights to start from: a backbone's, or a whole parser's.

    Args:
        parser: The network to start.
        path: A safetensors file.
        forget_clicks: Take of a parser only what it does with the image; what it does with clicks is learnt anew. Then
            the parser may have other components than the one that it starts from.

    Raises:
        TrainerError: If they fit neither.
    """
    try:
        weights = load_file(path)
        if "stem.weight" in weights and isinstance(parser.backbone, MobileNetV2):
            parser.backbone.load_image_weights(weights)
            return
        weights.setdefault("prior", parser.prior)  # weights of an older release have none
        stem = "backbone.stem.weight"
        if stem in weights and not parser.config.early_fusion:  # weights of early fusion start without it
            weights[stem] = weights[stem][:, :3]
        if forget_clicks:
            parser.load_state_dict(_seeing_only(parser, weights))
        else:
            parser.load_state_dict(_what_fits(parser, weights, path))
    except SafetensorError as error:
        raise TrainerError(f"{path} is not a safetensors file: {error}") from error
    except (RuntimeError, KeyError) as error:
        raise TrainerError(f"{path} does not fit this network: {error}") from error


def _what_fits(parser: HumanParser, weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The parser's own weights, with those taken from others that have the same name and shape.

    So weights of another label set give all but the layers that know its channels.
    """
    own = parser.state_dict()
    found = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not any(name.startswith("backbone.") for name in found):
        raise KeyError(f"no layer of the backbone, {parser.config.backbone}, is in it")
    if new := sorted({name.rsplit(".", 1)[0] for name in own if name not in found}):
        log.info("%s does not fit in %d layers, which start anew: %s", path, len(new), ", ".join(new))
    return {**own, **found}


def _seeing_only(parser: HumanParser, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parser's own weights, with those that look at the image taken from others.

    Wherever image and clicks meet, the image's channels come first.
    """
    blind = replace(parser.config, early_fusion=False, late_fusion=False, previous=False, prototypes=False)
    own = parser.state_dict()
    for name, shape in {k: v.shape for k, v in HumanParser(blind).state_dict().items()}.items():
        corner = tuple(slice(n) for n in shape)
        own[name][corner] = weights[name][corner]
    return own
