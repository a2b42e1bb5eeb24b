"""Folders of weights, without loading them: no torch is needed to find one and to read its info.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ihp_backend.parts import SCHEMAS, Schema, get_schema
from ihp_backend.stored_records import DamagedRecordError, read_object

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


def weights_by_schema(weights: str | Path) -> dict[str, Path]:
    """Returns the folder of the base weights of each schema that has some.

    Those given answer for their own schema, which comes first; the others are in model_weights/ under their schema's
    name.

    Args:
        weights: A name in model_weights/, or a folder. The name of a schema whose weights are missing is no error as
            long as another schema has weights.

    Raises:
        WeightsError: If there are no such weights, or they do not tell their schema.
    """
    shipped = {name: SHIPPED / name for name in SCHEMAS if (SHIPPED / name / "info.json").is_file()}
    try:
        given = find_weights(weights)
    except WeightsError:
        if weights in SCHEMAS and shipped:
            return shipped
        raise
    own = schema_of(read_info(given)).name
    return {own: given, **{name: folder for name, folder in shipped.items() if name != own}}


def read_info(folder: Path) -> dict[str, Any]:
    """Returns the content of a folder's info.json.

    Raises:
        WeightsError: If it is missing or no JSON object.
    """
    try:
        return read_object(folder / "info.json")
    except (OSError, DamagedRecordError) as error:
        raise WeightsError(f"weights {folder}: info.json cannot be read: {error}") from error


def schema_of(info: dict[str, Any]) -> Schema:
    """Returns the parts that weights know, by the content of their info.json.

    Raises:
        WeightsError: If it does not say.
    """
    try:
        architecture = info["architecture"]
        custom_classes = architecture.get("custom_classes", architecture.get("own", ()))  # own: older releases
        return get_schema(architecture["schema"]).extended(tuple(custom_classes))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"info.json does not tell the weights' parts ({error!r})") from error


def version_of(weights: str | Path) -> str:
    """Returns the version that predictions of these weights carry. Raises as ``find_weights`` and ``read_info`` do."""
    folder = find_weights(weights)
    return str(read_info(folder).get("version") or folder.name)
