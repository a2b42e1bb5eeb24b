"""Weights on disk: a folder with model.safetensors (no pickle) and info.json, which rebuilds the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ihp_backend.files import replacing, write_whole
from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.weights_folder import SHIPPED, WeightsError, find_weights, read_info

__all__ = ["SHIPPED", "WeightsError", "find_weights", "load_parser", "save_parser"]


STORED = (torch.float32, torch.float16, torch.bfloat16)
"""Kinds of numbers that weights may have on disk."""


def load_parser(folder: Path) -> tuple[HumanParser, dict[str, Any]]:
    """Builds the network that a folder describes and loads its weights.

    On disk they may be float32, float16 or bfloat16; in memory they are float32.

    Returns:
        The parser, in evaluation mode, and the content of info.json.

    Raises:
        WeightsError: If a file is missing, damaged, or does not fit the network.
    """
    try:
        info = read_info(folder)
        parser = HumanParser(ParserConfig.from_dict(info["architecture"]))
        weights = load_file(folder / "model.safetensors")
        weights.setdefault("prior", parser.prior)  # weights of an older release have none
        _check(weights, parser)
        weights = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
        parser.load_state_dict(weights)
    except FileNotFoundError as error:
        raise WeightsError(f"weights {folder}: {error.filename} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
        raise WeightsError(f"weights {folder} cannot be read: {error}") from error
    return parser.eval(), info


def _check(weights: dict[str, Tensor], parser: HumanParser) -> None:
    """Raises ``ValueError`` for what torch would take without a word: other kinds of numbers, and what is no number."""
    for name, expected in parser.state_dict().items():
        found = weights.get(name)
        if found is None:
            continue  # torch names all that are missing
        kinds = STORED if expected.is_floating_point() else (expected.dtype,)
        if found.dtype not in kinds:
            raise ValueError(f"{name} has {found.dtype}; expected {' or '.join(map(str, kinds))}")
        if not torch.isfinite(found).all():
            raise ValueError(f"{name} has values that are not finite")


def save_parser(parser: HumanParser, folder: Path, info: dict[str, Any], *, dtype: torch.dtype = torch.float32) -> None:
    """Writes model.safetensors and info.json; nobody sees half a file.

    Args:
        parser: The network.
        folder: Where; made if missing.
        info: What to keep beside the architecture, such as training data, licence and metrics.
        dtype: What numbers are stored as: ``torch.float16`` takes half the space.

    Raises:
        ValueError: If a value is too large for ``dtype``.
        OSError: If they cannot be written, as on a full disk; what was there is kept.
    """
    stored = {
        name: (value.to(dtype) if value.is_floating_point() else value).contiguous().cpu()
        for name, value in parser.state_dict().items()
    }
    if dtype != torch.float32 and (too_large := [n for n, v in stored.items() if not torch.isfinite(v).all()]):
        raise ValueError(f"{', '.join(too_large)}: values are not finite as {dtype}; store torch.float32 instead")
    with replacing(folder / "model.safetensors") as model:
        try:
            save_file(stored, model)
        except safetensors.SafetensorError as error:  # what the library makes of a full disk
            raise OSError(f"{folder / 'model.safetensors'} cannot be written: {error}") from error
    write_whole(folder / "info.json", json.dumps({"architecture": parser.config.to_dict(), **info}, indent=1) + "\n")
