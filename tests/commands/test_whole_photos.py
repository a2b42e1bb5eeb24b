"""ihp whole-photos, on a network that knows nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke
from tiny_weights import save_tiny

from ihp_backend.demo.project import plain_label_config
from ihp_backend.experiments import simulated_interface
from ihp_backend.label_studio.label_config import LabelConfig


def test_both_ways_are_measured_through_the_application(people: Path, tmp_path: Path) -> None:
    weights = save_tiny(tmp_path, "lip", "tiny-1")
    words = ("whole-photos", "--data", people, "--weights", weights, "--photos", "1", "--max-clicks", "1")
    code, output = invoke(*words, "--enough", "1")
    assert code == 0, output
    found = json.loads(output[output.index("{") :])
    assert found.keys() == {"nothing", "predictions"}
    for start in found.values():
        assert (start["photos"], start["enough"]) == (1, 0)
        assert start["clicks_per_photo"] >= 3, "each part once"
        assert start["keys_per_photo"] >= start["clicks_per_photo"] + 2
    code, output = invoke("whole-photos", "--data", tmp_path, "--weights", weights)
    assert code == 1
    assert str(tmp_path) in output


def test_the_label_config_says_whom_a_click_means(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def made(*labels: Any, **options: str) -> str:
        xml = plain_label_config(*labels, **options)
        asked.append(LabelConfig.parse(xml).people)
        return xml

    monkeypatch.setattr(simulated_interface, "plain_label_config", made)
    words = ("whole-photos", "--data", people, "--weights", save_tiny(tmp_path, "lip", "tiny-1"), "--photos", "1")
    for chosen in ((), ("--people", "everyone")):
        code, output = invoke(*words, "--max-clicks", "1", *chosen)
        assert code == 0, output
    assert asked == ["one", "one", "everyone", "everyone"], "from nothing and from predictions, each"
