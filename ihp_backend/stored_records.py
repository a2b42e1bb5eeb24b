"""Small JSON files that other processes, other releases or other people may have written: read, or named as damaged."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ihp_backend.files import read_file

Record = TypeVar("Record")

_MOST_BYTES = 4_000_000


class DamagedRecordError(ValueError):
    """A file is no record; the message says why."""


def read_object(path: Path) -> dict[str, Any]:
    """Reads a file that holds one JSON object.

    Raises:
        FileNotFoundError: If it is not there.
        DamagedRecordError: If it is a folder or a pipe, very long, nested very deep, or no JSON object.
        OSError: If it cannot be read.
    """
    try:
        data = read_file(path, _MOST_BYTES)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EFBIG, errno.EISDIR, errno.ELOOP):
            raise DamagedRecordError(f"{path}: {error.strerror}") from None
        raise
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedRecordError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise DamagedRecordError(f"{path} holds a JSON {type(values).__name__}; expected an object")
    return values


def as_record(kind: type[Record], values: Mapping[str, Any], path: Path) -> Record:
    """Makes a dataclass of a JSON object. Fields of a newer release are ignored.

    Args:
        kind: A dataclass of texts, numbers, tuples and dicts of them.
        values: The object.
        path: Where it is from, for the message.

    Raises:
        DamagedRecordError: If a field is missing or of another type.
    """
    hints = get_type_hints(kind)
    known = {option.name: values[option.name] for option in fields(kind) if option.name in values}  # type: ignore[arg-type]
    for name, value in known.items():
        if not _fits(value, hints[name]):
            raise DamagedRecordError(f"{path} has a {type(value).__name__} as {name!r}; expected {hints[name]}")
        if isinstance(value, list):
            known[name] = tuple(value)
    try:
        return kind(**known)
    except TypeError as error:
        raise DamagedRecordError(f"{path}: {error}") from None


def read_record(kind: type[Record], path: Path) -> Record:
    """Reads a file as a dataclass, see ``read_object`` and ``as_record``, which say what is raised."""
    return as_record(kind, read_object(path), path)


def is_text(value: object) -> bool:
    """Whether a value is a text that can be written to a log and to other programs."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _fits(value: object, hint: Any) -> bool:
    if hint is str:
        return is_text(value)
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if hint is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and abs(value) < 1e300 and math.isfinite(value)  # type: ignore[arg-type]
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple:
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(is_text(key) and _fits(item, inner[1]) for key, item in value.items())
    if origin is UnionType:
        return any(value is None if kind is type(None) else _fits(value, kind) for kind in inner)
    raise TypeError(f"a record with fields of {hint} is not known")
