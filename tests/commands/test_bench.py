"""`ihp bench`: it measures what it says, on photos of the size that it says. How fast that is is not a test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ihp_backend.cli import main
from ihp_backend.experiments import benchmark
from ihp_backend.experiments.benchmark import Row, timed
from ihp_backend.experiments.server_under_test import draw_photo
from ihp_backend.label_studio.image_decoding import decode_image


@pytest.mark.parametrize(("width", "height"), [(80, 60), (400, 300)])
def test_photos_have_the_size_that_is_asked_for(width: int, height: int) -> None:
    image = decode_image(draw_photo(width, height), max_pixels=10**9)
    assert image.shape == (height, width, 3)
    assert image.std() > 15


def test_warm_up_does_not_count() -> None:
    asked: list[int] = []
    median, p95 = timed(asked.append, 5, warm_up=2)
    assert asked == [-1, -2, 0, 1, 2, 3, 4]
    assert 0 <= median <= p95


def test_the_whole_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the real server, on one small photo."""
    monkeypatch.setattr(benchmark, "SIZES", ((1024, 768),))
    monkeypatch.setattr(benchmark, "relaxed", lambda *args: (1.0, 2.0))
    monkeypatch.setattr(benchmark, "throughput", lambda server, annotators, seconds: (1.0, 1.0))
    out = tmp_path / "bench.json"
    result = CliRunner().invoke(main, ["bench", "--runs", "5", "--json", str(out), "--markdown"])
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert found["machine"]["cores"]
    rows = [Row(**row) for row in found["rows"]]
    names = {row.what for row in rows}
    assert {"server ready", "cold click", "warm click", "correction click", "second part", "peak memory"} <= names
    assert any(name.startswith("click that answers all parts") for name in names)
    assert {"decode", "localization maps", "network, a click", "clean-up", "mask at full size", "RLE", "JSON"} <= names
    assert all(np.isfinite(row.median) and row.median > 0 for row in rows if row.what != "JSON")
    assert "| warm click | 1024x768 |" in result.output
