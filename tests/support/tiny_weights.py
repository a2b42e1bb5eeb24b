"""Base weights of several label sets, too small to be of use, in the place of the shipped ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.weights import save_parser


def save_tiny(folder: Path, schema: str, version: str) -> Path:
    """Writes untrained weights of a schema."""
    save_parser(HumanParser(ParserConfig(schema, width=8, area=64 * 64)), folder, {"version": version})
    return folder


def ship(monkeypatch: pytest.MonkeyPatch, folder: Path, schemas: Iterable[str]) -> Path:
    """Makes these the shipped weights: ``lip-1`` of LIP and so on."""
    for schema in schemas:
        save_tiny(folder / schema, schema, f"{schema}-1")
    monkeypatch.setattr("ihp_backend.network.weights_folder.SHIPPED", folder)
    return folder
