"""`ihp demo` in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from ihp_backend.data.synthetic import draw_person
from ihp_backend.demo.project import BackendAccess, connect_backend
from ihp_backend.label_studio.client import Client
from ihp_backend.parts import LIP

ROOT = Path(__file__).parents[2]


SHOTS = ROOT / "e2e-screenshots"


@dataclass
class Demo:
    """A running `ihp demo`, and what it printed."""

    process: subprocess.Popen[bytes]
    command: list[str]
    printed: str
    url: str
    project: int
    user: str
    password: str
    client: Client
    data_dir: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def drawn_people(folder: Path) -> Path:
    """A folder data set of drawn people, to rehearse: the base weights have seen photos only."""
    for part in ("images", "labels", "splits"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(12):
        image, labels = draw_person(np.random.default_rng(500 + number), 360, 240)
        cv2.imwrite(str(folder / f"images/{number:02d}.png"), image[..., ::-1])
        cv2.imwrite(str(folder / f"labels/{number:02d}.png"), labels)
    (folder / "splits/train.txt").write_text("".join(f"{number:02d}\n" for number in range(8)))
    (folder / "splits/val.txt").write_text("".join(f"{number:02d}\n" for number in range(8, 12)))
    pairs = [[i, twin] for i, twin in enumerate(LIP.mirrored) if i < twin]
    classes = [{"id": i, "name": name} for i, name in enumerate(LIP.names)]
    (folder / "classes.json").write_text(json.dumps({"classes": classes, "flip_pairs": pairs}))
    return folder


def start_demo(command: list[str], data_dir: Path, within_s: float) -> Demo:
    """Starts `ihp demo` as a user does, reads what it prints, and believes nothing else."""
    output = data_dir / "printed.txt"
    with output.open("w") as file:
        # Enough to see that something was learnt.
        environ = {**os.environ, "IHP_TRAIN_STEPS": "40", "IHP_BASE_DATA": str(drawn_people(data_dir / "base"))}
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environ)
    until = time.monotonic() + within_s
    while "Ctrl+C" not in (printed := output.read_text()):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            pytest.fail(f"`{' '.join(command)}` did not get ready within {within_s} s:\n{printed}")
        time.sleep(0.2)
    said = dict(re.findall(r"^ +(address|user|password) +(\S+)$", printed, re.MULTILINE))
    url, project = re.fullmatch(r"(.+)/projects/(\d+)/data", said["address"]).groups()  # type: ignore[union-attr]
    token = re.search(r'"token": "(\w+)"', (data_dir / "credentials.json").read_text())
    assert token
    client = Client(url, token[1])
    return Demo(process, command, printed, url, int(project), said["user"], said["password"], client, data_dir)


def stop_demo(demo: Demo) -> None:
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(30) == 0


def backend_of(demo: Demo) -> str:
    return str(demo.client.list_ml_backends(demo.project)[0]["url"]).rstrip("/")


def new_project(demo: Demo, title: str, xml: str) -> int:
    project = int(demo.client.create_project(title, xml)["id"])
    connect_backend(demo.client, project, BackendAccess(backend_of(demo)))
    return project
