"""Folders of weights, without loading them: no torch is needed to find one and to read its info.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).parents[2] / "model_weights"


class WeightsError(ValueError):
    """A folder of weights is missing or not what it should be."""


def find_weights(weights: str | Path) -> Path:
    """Returns the folder of weights given by name (in model_weights/) or by path.

    Raises:
        WeightsError: If there is none; the message lists the names there are.
    """
    for folder in (Path(weights), SHIPPED / weights):
        if (folder / "info.json").is_file():
            return folder
    names = sorted(path.parent.name for path in SHIPPED.glob("*/info.json"))
    raise WeightsError(
        f"no weights {str(weights)!r}: expected a folder with model.safetensors and info.json, "
        f"or one of these names: {', '.join(names) or 'none'} (in {SHIPPED})"
    )


def read_info(folder: Path) -> dict[str, Any]:
    """Returns the content of a folder's info.json.

    Raises:
        WeightsError: If it is missing or no JSON object.
    """
    try:
        info = json.loads((folder / "info.json").read_text())
    except (OSError, ValueError) as error:
        raise WeightsError(f"weights {folder}: info.json cannot be read: {error}") from error
    if not isinstance(info, dict):
        raise WeightsError(f"weights {folder}: info.json is a {type(info).__name__}; expected an object")
    return info


def version_of(weights: str | Path) -> str:
    """Returns the version that predictions of these weights carry. Raises as ``find_weights`` and ``read_info`` do."""
    folder = find_weights(weights)
    return str(read_info(folder).get("version", folder.name))
