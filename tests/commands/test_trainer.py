"""The trainer as a process of its own, beside the server: it trains, dies, comes back, and holds nobody up."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from fake_label_studio import LEGACY
from fake_project import CONFIG, PROJECT, FakeProject, box, region
from fakes import golden
from server_process import server
from waiting import eventually

from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.weights import save_parser


@pytest.fixture
def project() -> Iterator[FakeProject]:
    with FakeProject() as fake:
        for number in range(1, 7):
            fake.add(number, region("Face", box(slice(0, 20), slice(number, 40))))
        yield fake


@pytest.fixture
def environment(tmp_path: Path, project: FakeProject) -> dict[str, str]:
    """A small network, untrained, which learns in a second."""
    folder = tmp_path / "tiny"
    save_parser(HumanParser(ParserConfig(width=8, area=64 * 64)), folder, {"version": "tiny-1"})
    return {"IHP_WEIGHTS": str(folder), "IHP_LABEL_STUDIO_URL": project.url, "IHP_LABEL_STUDIO_TOKEN": LEGACY}


def children(parent: int) -> list[int]:
    """Process ids of the trainers that a server has started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if b"trainer" in words and words[-2] == str(parent).encode() and stat[0] != "Z":
            found.append(int(entry.name))
    return found


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def training(url: str) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{url}/trainings", timeout=10).json().get(PROJECT, {"state": "never"})
    return found


def start_training(url: str) -> str:
    return str(requests.post(f"{url}/webhook", json=golden("webhook_start_training"), timeout=1).json()["status"])


def click(url: str) -> str:
    """Clicks on the photo of task 1, and returns the version that answers."""
    body = golden("predict_click")
    (keypoint,) = body["params"]["context"]["result"]
    keypoint |= {"original_width": 64, "original_height": 48, "from_name": "click", "to_name": "image"}
    keypoint["value"]["keypointlabels"] = ["Face"]
    task = {"id": 1, "data": {"image": "/data/upload/1/photo-1.png"}}
    answer = requests.post(f"{url}/predict", json=body | {"label_config": CONFIG, "tasks": [task]}, timeout=20)
    (item,) = answer.json()["results"]
    assert item["result"]
    return str(item["model_version"])


def test_a_training_from_the_button_to_the_metrics(
    tmp_path: Path, project: FakeProject, environment: dict[str, str]
) -> None:
    with server(tmp_path, **environment, IHP_TRAIN_STEPS="3") as (url, process, log):
        assert start_training(url) in ("queued", "accepted")
        eventually(lambda: training(url)["state"] in ("promoted", "rejected"), 180)
        found = training(url)
        assert found["version"] == "tiny-1+p1.001"
        assert "held-back photos" in found["reason"]
        text = requests.get(f"{url}/metrics", timeout=10).text
        assert f'ihp_trainings_total{{outcome="{found["state"]}",project="{PROJECT}"}} 1.0' in text
        answers = {"promoted": "tiny-1+p1.001", "rejected": "tiny-1"}
        eventually(lambda: click(url) == answers[found["state"]])
        eventually(lambda: bool(children(process.pid)))
        (trainer,) = children(process.pid)
        memory = resident_mb(trainer)
        start_training(url)
        eventually(lambda: training(url)["version"] == "tiny-1+p1.002" and training(url)["state"] != "running", 180)
        eventually(lambda: children(process.pid) == [trainer] and resident_mb(trainer) <= memory + 20, 20)
        assert os.getpriority(os.PRIO_PROCESS, trainer) >= 10
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        eventually(lambda: not children(process.pid))
    lines = log.read_text()
    assert "training begins" in lines
    assert "training: train" in lines
    assert "training ended" in lines
    assert project.writes() == []


def test_a_trainer_that_is_killed_in_the_middle_comes_back_and_begins_anew(
    tmp_path: Path, project: FakeProject, environment: dict[str, str]
) -> None:
    with server(tmp_path, **environment, IHP_TRAIN_STEPS="100000") as (url, process, log):
        start_training(url)
        eventually(lambda: training(url).get("stage") == "cross-validate", 180)
        assert start_training(url) == "already running"
        (trainer,) = children(process.pid)
        os.kill(trainer, signal.SIGKILL)
        assert click(url) == "tiny-1"
        eventually(lambda: training(url)["attempts"] == 2 and training(url)["stage"] == "cross-validate", 180)
        assert click(url) == "tiny-1", "nothing half-written is served"
        assert children(process.pid) != [trainer]
        assert "the trainer died and is started again" in log.read_text()
        process.kill()
        process.wait()
        eventually(lambda: not children(process.pid), 15)
    assert project.writes() == []


def test_a_server_may_be_without_a_trainer(tmp_path: Path, environment: dict[str, str]) -> None:
    with server(tmp_path, **environment, IHP_TRAINER="false") as (url, process, _):
        assert start_training(url) in ("queued", "accepted")
        assert children(process.pid) == []
        eventually(lambda: training(url)["state"] == "queued")
