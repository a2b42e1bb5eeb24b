"""A version of a project's weights in its folder, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ihp_backend.stored_records import is_text, read_object

BASE = "base"
"""What the base weights are called where a project's version is named."""
MODEL, INFO, STATUS = "model.safetensors", "info.json", "status.json"
FIRST_SCHEMA = "lip"
"""What versions of older releases were trained for where nothing tells it."""


class RegistryError(ValueError):
    """There is no such version, or it cannot be served; the message says why."""


@dataclass(frozen=True)
class Status:
    """What became of a version.

    Attributes:
        state: ``promoted``, ``rejected`` or ``rolled back``.
        reason: Why.
        when: ISO 8601, UTC.
        parent: The version it was trained from, or ``base``.
        before: Measures of the parent, on the same photos as ``after``.
        after: Measures of this version.
        seconds: How long its training took.
        photos: How many photos there were of each kind: train, held back, left out.
        digest: SHA-256 of its weights.
        schema: Name of the schema of its weights; empty in records of older releases, see ``Version.schema``.
    """

    state: str
    reason: str
    parent: str = BASE
    when: str = ""
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    photos: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    schema: str = ""


@dataclass(frozen=True)
class Version:
    """A version in its folder."""

    name: str
    folder: Path
    status: Status

    @property
    def has_weights(self) -> bool:
        """Whether its weights are still there: of old versions only the record is kept."""
        return (self.folder / MODEL).is_file()

    @property
    def schema(self) -> str:
        """Name of the schema of its weights."""
        return self.status.schema or schema_in(self.folder)


def schema_in(folder: Path) -> str:
    """Returns the schema that a version's info.json tells."""
    try:
        schema = read_object(folder / INFO)["architecture"]["schema"]
        return schema if is_text(schema) else FIRST_SCHEMA
    except (OSError, ValueError, KeyError, TypeError):
        return FIRST_SCHEMA
