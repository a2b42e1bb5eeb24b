"""Files that others may have written are read as records, or named as damaged."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from ihp_backend.stored_records import DamagedRecordError, is_text, read_object, read_record


@dataclass(frozen=True)
class Entry:
    name: str
    count: int
    share: float = 0.5
    tags: tuple[str, ...] = ()
    scores: dict[str, float] | None = None
    is_new: bool = False


FULL = {"name": "a", "count": 2, "share": 1, "tags": ["x", "y"], "scores": {"miou": 0.5}, "is_new": True}


def write(folder: Path, text: str) -> Path:
    path = folder / "entry.json"
    path.write_text(text)
    return path


def test_a_record_is_read_and_fields_of_a_newer_release_are_ignored(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps({**FULL, "newer": [1]}))
    assert read_record(Entry, path) == Entry("a", 2, 1, ("x", "y"), {"miou": 0.5}, True)
    assert read_record(Entry, write(tmp_path, '{"name": "b", "count": 0}')) == Entry("b", 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 3),
        ("name", "\ud800"),
        ("count", True),
        ("is_new", 1),
        ("count", 1.5),
        ("count", 2**63),
        ("share", False),
        ("share", 10**301),
        ("share", float("inf")),
        ("tags", "x"),
        ("tags", [1]),
        ("scores", {"miou": "good"}),
        ("scores", []),
    ],
)
def test_a_value_of_another_kind_is_named(field: str, value: object, tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps({**FULL, field: value}))
    with pytest.raises(DamagedRecordError, match=rf"entry.json has a \w+ as '{field}'; expected"):
        read_record(Entry, path)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedRecordError, match="'count'"):
        read_record(Entry, write(tmp_path, '{"name": "a"}'))


@pytest.mark.parametrize(
    ("text", "expected"), [("[]", "a JSON list"), ("{", "not JSON"), ("[" * 100_000, "not JSON"), ("", "not JSON")]
)
def test_what_is_no_object_is_told(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedRecordError, match=expected):
        read_object(write(tmp_path, text))


def test_what_is_no_file_is_told_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(DamagedRecordError, match=r"is not a file|Is a directory"):
            read_object(path)
    with pytest.raises(FileNotFoundError):
        read_object(tmp_path / "missing")
    with pytest.raises(DamagedRecordError, match="longer than"):
        read_object(write(tmp_path, '{"a": "' + 4_000_000 * "x" + '"}'))


def test_a_text_can_be_written_anywhere() -> None:
    assert is_text("Größe")
    assert not is_text("\udcff")
    assert not is_text(b"a")
