"""A project learns: annotations are submitted, Start Training is pressed, the new version answers a click."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests
from numpy.typing import NDArray
from one_region import mask_region
from running_demo import Demo, backend_of, new_project
from studio import Studio, answered, mask_of

from ihp_backend.data.synthetic import draw_person
from ihp_backend.demo.project import label_config_of, plain_label_config
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import LIP

pytestmark = pytest.mark.e2e

PHOTOS = 8


def wait_for(what: Callable[[], Any], within_s: float) -> Any:
    until = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < until, f"not within {within_s} s"
        time.sleep(0.2)
    return found


def training_of(demo: Demo, project: int) -> dict[str, Any]:
    found = requests.get(f"{backend_of(demo)}/trainings", timeout=10).json()
    return next((record for key, record in found.items() if key.startswith(f"{project}.")), {"state": "never"})


def truth_of(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return draw_person(np.random.default_rng(1000 + seed), 720, 480)


CLOTHES = ("upper-clothes", "coat", "dress", "skirt", "pants")
OWN_LABELS = plain_label_config(("Face", "Costume", "Skin"))
"""Two labels that the base does not know: there is much to learn, whatever else the machine rounds off."""
MEANT = {"Costume": CLOTHES, "Skin": ("left-arm", "right-arm", "left-leg", "right-leg")}


def annotate(demo: Demo, task: dict[str, Any], seed: int, config: LabelConfig) -> None:
    _, ids = truth_of(seed)
    meant = {label: MEANT.get(label, parts) for label, parts in config.parts(LIP).items()}
    masks = {label: np.isin(ids, [LIP.names.index(p) for p in parts]) for label, parts in meant.items()}
    regions = [mask_region(mask, label, 1.0, config) for label, mask in masks.items() if mask.any()]
    demo.client.create_annotation(task["id"], regions)


def annotations_of(demo: Demo, project: int) -> list[tuple[Any, ...]]:
    found = [a for task in demo.client.list_tasks(project) for a in demo.client.annotations(task["id"])]
    return [(a["id"], a["updated_at"], a["was_cancelled"], a["result"]) for a in found]


def ihp(demo: Demo, *arguments: str) -> str:
    environ = {"IHP_DATA_DIR": str(demo.data_dir / "backend"), "IHP_LABEL_STUDIO_URL": demo.url}
    environ["IHP_LABEL_STUDIO_TOKEN"] = demo.client.token
    command = [sys.executable, "-m", "ihp_backend", *arguments]
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_project_learns_from_what_is_submitted(demo: Demo, studio: Studio, tmp_path: Path) -> None:
    # Only Start Training trains it: by itself it would at the fifth annotation, and then once more.
    xml = OWN_LABELS.replace("<KeyPointLabels ", '<KeyPointLabels ihp_train_after="0" ')
    project = new_project(demo, "It learns", xml)
    files = []
    for seed in range(PHOTOS):
        files.append(tmp_path / f"drawn-{seed}.png")
        cv2.imwrite(str(files[-1]), truth_of(seed)[0][..., ::-1])
    demo.client.import_files(project, files)
    tasks = {t["data"]["image"].rpartition("drawn-")[2][0]: t for t in demo.client.list_tasks(project)}
    config = LabelConfig.parse(xml)
    for seed in range(PHOTOS - 2):
        annotate(demo, tasks[str(seed)], seed, config)

    by_hand, last = tasks[str(PHOTOS - 2)]["id"], tasks[str(PHOTOS - 1)]["id"]
    studio.open(project, by_hand)
    studio.auto_annotate()
    studio.pick("Costume")
    before = studio.click(0.5, 0.35)["data"]["model_version"]
    studio.accept()
    studio.submit()
    annotations = annotations_of(demo, project)

    studio.start_training(project)
    record = wait_for(
        lambda: (r := training_of(demo, project))["state"] in ("promoted", "rejected", "failed") and r, 900
    )
    assert record["state"] == "promoted", record["reason"]
    version = record["version"]
    assert version == f"{before}+p{project}.001"
    (ml,) = demo.client.list_ml_backends(project)
    assert ml["model_version"] == version
    assert demo.client.list_ml_backends(demo.project)[0]["model_version"] == before, "another project is as it was"

    studio.open(project, last)
    studio.auto_annotate()
    studio.pick("Costume")
    answer = studio.click(0.5, 0.35)
    assert answer["data"]["model_version"] == version
    assert mask_of(answered(answer)).any()
    studio.accept()
    studio.shot("9-a-new-version")
    made = ihp(demo, "preannotate", "--project", str(project), "--workers", "queue")
    assert f"predicted, 0 had predictions of {version}" in made
    assert version in {prediction["model_version"] for prediction in demo.client.predictions(last)}
    assert annotations_of(demo, project) == annotations, "annotations are never written to"

    (printed,) = re.findall(r"(?m)^ +(IHP_DATA_DIR=.* versions list)$", demo.printed)
    listed = subprocess.run(printed, shell=True, capture_output=True, text=True, check=True).stdout
    assert f"* {version}" in listed, "as the demo says"
    ihp(demo, "versions", "rollback", "--project", str(project))
    time.sleep(1.0)
    studio.pick("Face")
    assert studio.click(0.5, 0.155)["data"]["model_version"] == before


def test_enough_annotations_start_a_training_by_themselves_and_a_failure_has_its_reason(demo: Demo) -> None:
    xml = label_config_of("lip").replace("<KeyPointLabels ", '<KeyPointLabels ihp_train_after="2" ')
    project = new_project(demo, "By itself", xml)
    demo.client.import_tasks(project, [{"data": {"image": f"/data/upload/{project}/gone-{n}.jpg"}} for n in range(3)])
    first, *others = list(demo.client.list_tasks(project))
    demo.client.create_annotation(first["id"], [], was_cancelled=True)  # a skip does not count
    for number, task in enumerate(others):
        assert training_of(demo, project)["state"] == "never"
        annotate(demo, task, number, LabelConfig.parse(xml))
    record = wait_for(lambda: (r := training_of(demo, project))["state"] == "failed" and r, 120)
    assert "two annotated photos are needed" in record["reason"]
    assert "cannot be had" in record["reason"]
    (ml,) = demo.client.list_ml_backends(project)
    assert ml["model_version"].startswith("lip")
    assert "+" not in ml["model_version"]
