"""Exports of a project with twelve photos, each with a face and trousers."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from fake_label_studio import LEGACY
from fake_project import FakeProject, box, region

from ihp_backend.cli import main
from ihp_backend.data.catalogue import open_data_set

FACE, LEGS = box(slice(0, 20), slice(0, 30)), box(slice(10, 40), slice(20, 64))


@contextmanager
def twelve_photos() -> Iterator[FakeProject]:
    with FakeProject() as fake:
        for number in range(1, 13):
            fake.add(number, region("Face", FACE), region("Trousers", LEGS))
        yield fake


def labels_of(face: int, legs: int) -> np.ndarray[Any, Any]:
    labels = np.zeros((48, 64), np.uint8)
    labels[FACE] = face
    labels[LEGS] = legs
    return labels


def run(project: FakeProject, out: Path, *options: str, data_dir: Path | None = None) -> Result:
    environ = {
        "IHP_LABEL_STUDIO_URL": project.url,
        "IHP_LABEL_STUDIO_TOKEN": LEGACY,
        "IHP_DATA_DIR": str(data_dir or out.parent / "data"),
    }
    return CliRunner(env=environ).invoke(main, ["export", "--project", "1", "--out", str(out), *options])


def rows(out: Path) -> dict[int, dict[str, str]]:
    return {int(row["task"]): row for row in csv.DictReader((out / "report.csv").read_text().splitlines())}


def files(out: Path) -> dict[str, int]:
    """All files of an export, and when they were written."""
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}


def samples(out: Path, layout: str = "folder") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for split in ("train", "val"):
        data = open_data_set(out, split, layout)
        found |= {data.names[i]: data[i] for i in range(len(data))}
    return found
