"""`ihp train` and `ihp evaluate` on a folder of drawn people: they run, resume, and say what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest
import torch
from command_line import invoke
from PIL import Image
from torchrun import logged, processes_of, torchrun
from waiting import eventually

from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.weights import load_parser, save_parser
from ihp_backend.parts import LIP

TINY: dict[str, Any] = {"batch": 2, "warmup": 2, "validate_every": 2, "parser": {"width": 32, "area": 1536}}


def test_train_resume_evaluate(people: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    run = tmp_path / "run"
    train = ("train", "--data", people, "--config", tmp_path / "tiny.json", "--steps", 4, "--out", run)
    code, output = invoke(*train, "--until", 2, "--version", "tiny-1")
    assert code == 0, output
    code, output = invoke(*train, "--version", "tiny-1")
    assert code == 0, output
    assert "weights in" in output
    assert (run / "curves.png").stat().st_size > 5000
    info = json.loads((run / "best/info.json").read_text())
    assert info["version"] == "tiny-1"
    assert "ihp train --data" in info["command"] or info["command"].startswith("ihp")
    assert {"miou_at_0", "miou_at_1", "miou_at_2"} <= set(info["validation"])

    report = tmp_path / "report"
    words = ("evaluate", "--data", people, "--split", "val", "--weights", run / "best", "--session", "--out", report)
    code, output = invoke(*words)
    assert code == 0, output
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["images"] == 1
    assert metrics["weights"] == "tiny-1"
    session = json.loads((report / "session.json").read_text())
    assert session["images"] == 1
    assert session["clicks_per_photo"] >= session["images"]
    assert set(session["miou_at_clicks_per_class"]) == {"1", "1.5", "2", "3"}
    assert {p.name for p in report.iterdir()} >= {"metrics.json", "curve.png", "per_class.csv", "failures.png"}


def test_another_network_starts_from_what_the_weights_see(people: Path, tmp_path: Path) -> None:
    save_parser(HumanParser(ParserConfig.from_dict(TINY["parser"])), tmp_path / "start", {})
    fused = {**TINY, "parser": {**TINY["parser"], "early_fusion": True, "late_fusion": False, "previous": False}}
    (tmp_path / "fused.json").write_text(json.dumps(fused))
    train = ("train", "--data", people, "--config", tmp_path / "fused.json", "--steps", 1, "--calibrate", 0)
    start = ("--init", tmp_path / "start/model.safetensors")
    seen = {}
    for name, more in (("forgets", ("--forget-clicks",)), ("fits", ())):
        code, output = invoke(*train, *start, *more, "--out", tmp_path / name)
        assert code == 0, output
        seen[name] = load_parser(tmp_path / name / "best")[0].state_dict()
    given = load_parser(tmp_path / "start")[0].state_dict()
    at4 = "decoder.at4.0.0.weight"  # the image's channels are kept, those of the clicks behind them are gone
    kept = given[at4][:, : seen["forgets"][at4].shape[1]]
    assert torch.allclose(seen["forgets"][at4], kept, atol=0.02)
    assert not torch.allclose(seen["fits"][at4], kept, atol=0.02)


def test_a_data_set_with_classes_of_its_own(people: Path, tmp_path: Path) -> None:
    shutil.copytree(people, tmp_path / "data")
    for path in (tmp_path / "data/labels").iterdir():
        with Image.open(path) as file:
            labels = np.array(file)
        Image.fromarray(np.where(labels == LIP.find("face"), 1, np.where(labels > 0, 2, 0)).astype(np.uint8)).save(path)
    classes = [{"id": i, "name": n, "colour": [9, 9, i]} for i, n in enumerate(("nothing", "head", "Body suit"))]
    (tmp_path / "data/classes.json").write_text(json.dumps({"classes": classes}))
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    run, report = tmp_path / "run", tmp_path / "report"
    words = ("--data", tmp_path / "data", "--config", tmp_path / "tiny.json", "--steps", 2, "--out", run)
    assert invoke("train", *words) == (0, ANY)
    info = json.loads((run / "best/info.json").read_text())
    assert (info["architecture"]["schema"], info["architecture"]["custom_classes"]) == ("open", ["head", "Body suit"])
    words = ("--data", tmp_path / "data", "--weights", run / "best", "--max-clicks", 2, "--out", report)
    assert invoke("evaluate", *words) == (0, ANY)
    assert json.loads((report / "metrics.json").read_text())["classes"] == ["background", "head", "Body suit"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--split", "nonsense"], "there are: train, val"),
        (["--layout", "lip"], "lacks"),
        (["--init", "{people}/classes.json"], "classes.json"),
    ],
)
def test_train_says_what_is_wrong(people: Path, tmp_path: Path, words: list[str], expected: str) -> None:
    words = [word.format(people=people) for word in words]
    code, output = invoke("train", "--data", people, "--steps", 1, "--out", tmp_path / "run", *words)
    assert code != 0
    assert expected in output
    assert "Traceback" not in output


def test_train_explains_a_bad_configuration(people: Path, tmp_path: Path) -> None:
    for text, expected in (('{"speed": 1}', "speed"), ("{", "JSON"), ("[]", "object"), ('{"steps": "many"}', "steps")):
        (tmp_path / "c.json").write_text(text)
        code, output = invoke("train", "--data", people, "--config", tmp_path / "c.json", "--out", tmp_path / "run")
        assert code == 1, text
        assert expected in output
        assert "c.json" in output
        assert "Traceback" not in output


def test_a_run_of_two_processes_that_is_killed_goes_on_with_another_number(people: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(
        '{"batch": 3, "warmup": 2, "validate_every": 4, "balance": 0.3, "parser": {"width": 32, "area": 1536}}'
    )
    run = tmp_path / "run"
    words = ("-m", "ihp_backend", "train", "--data", people, "--config", tmp_path / "tiny.json", "--out", run)
    rest = ("--steps", 24, "--calibrate", 0, "--device", "cpu")
    killed = torchrun(2, *words, *rest)
    eventually(lambda: (run / "best").exists() or killed.poll() is not None, 120)
    for process in processes_of(killed.pid)[1:]:
        os.kill(process, signal.SIGKILL)
    output, _ = killed.communicate(timeout=60)
    assert killed.returncode != 0, output
    steps = {int(step) for step, _ in logged(run)}
    assert steps
    assert max(steps) < 24, "the kill came too late to try anything"

    again = torchrun(2, *words, *rest, "--until", 16, "--workers", 1)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert output.count("resuming at step") == 1, "one process talks"
    assert output.count("weights in") == 1
    alone = subprocess.run([sys.executable, *map(str, words + rest)], capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stderr
    assert "resuming at step 16" in alone.stderr
    assert {int(step) for step, name in logged(run) if name == "score"} == set(range(4, 28, 4))
    assert (run / "best/model.safetensors").exists()
    assert not list(run.glob(".new-*"))


def test_a_batch_without_a_photo_for_each_process_is_refused(people: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text('{"batch": 1, "parser": {"width": 32, "area": 1536}}')
    words = ("-m", "ihp_backend", "train", "--data", people, "--config", tmp_path / "tiny.json", "--out", tmp_path)
    refused = torchrun(2, *words, "--device", "cpu")
    output, _ = refused.communicate(timeout=120)
    assert refused.returncode != 0
    assert "batch is 1; expected at least a photo for each of 2 processes" in output
