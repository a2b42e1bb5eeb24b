"""What ihp evaluate refuses."""

from __future__ import annotations

from pathlib import Path

from command_line import invoke


def test_evaluate_says_what_is_wrong(people: Path, tmp_path: Path) -> None:
    code, output = invoke("evaluate", "--data", people, "--weights", "none-such", "--out", tmp_path)
    assert code == 1
    assert "none-such" in output
    code, output = invoke("evaluate", "--data", tmp_path, "--out", tmp_path)
    assert code == 1
    assert str(tmp_path) in output
    code, output = invoke("evaluate", "--data", people, "--out", tmp_path, "--without", "smoothing")
    assert code == 2
    assert "smoothing" in output
    assert "progressive_merge" in output
