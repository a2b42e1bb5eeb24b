"""A click becomes a mask: in the real Label Studio, with the real network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import requests
from numpy.typing import NDArray
from running_demo import Demo, free_port, new_project, start_demo, stop_demo
from studio import Studio, answered, mask_of

from ihp_backend.demo.project import label_config_of

pytestmark = pytest.mark.e2e


def task_of(demo: Demo, name: str) -> int:
    return int(next(task["id"] for task in demo.client.list_tasks(demo.project) if name in task["data"]["image"]))


def share_inside(mask: NDArray[np.bool_], x: float, y: float, radius: int = 8) -> float:
    row, column = int(y * mask.shape[0]), int(x * mask.shape[1])
    return float(mask[row - radius : row + radius + 1, column - radius : column + radius + 1].mean())


def test_click_accept_submit(demo: Demo, studio: Studio) -> None:
    task = task_of(demo, "eileen-collins")
    studio.open(demo.project, task)
    studio.auto_annotate()
    studio.pick("Face")
    answer = studio.click(0.44, 0.24)
    said = answered(answer)
    assert said["type"] == "brushlabels"
    assert said["value"]["brushlabels"] == ["Face"]
    assert 0 < said["score"] <= 1
    assert answer["data"]["model_version"].startswith("lip")
    (suggestion,) = studio.suggestions
    assert suggestion["labels"] == ["Face"]
    studio.shot("1-suggestion")

    studio.accept()
    assert [region["labels"] for region in studio.regions] == [["Face"]]  # the keypoint is gone
    studio.shot("2-accepted")
    studio.pick("Hair")  # before Label Studio has saved the face in a draft
    hair = answered(studio.click(0.36, 0.16))
    studio.accept()
    studio.shot("3-two-parts")
    studio.submit()

    (annotation,) = demo.client.annotations(task)
    kept = {r["value"]["brushlabels"][0]: r for r in annotation["result"] if r["type"] == "brushlabels"}
    assert set(kept) == {"Face", "Hair"}
    assert np.array_equal(mask_of(kept["Face"]), mask_of(said))
    assert np.array_equal(mask_of(kept["Hair"]), mask_of(hair))
    face = mask_of(kept["Face"])
    assert face.shape == (512, 512)
    assert share_inside(face, 0.44, 0.24) == 1
    assert not share_inside(face, 0.05, 0.5)
    assert not (face & mask_of(kept["Hair"])).any()


def test_more_clicks_correct_the_mask(demo: Demo, studio: Studio) -> None:
    studio.open(demo.project, task_of(demo, "person-1"))
    studio.auto_annotate()
    studio.pick("Upper-clothes")
    answered(studio.click(0.5, 0.4))
    studio.pick("Upper-clothes")
    second = mask_of(answered(studio.click(0.52, 0.33)))
    assert second[int(0.33 * second.shape[0]), int(0.52 * second.shape[1])]
    studio.pick("Upper-clothes")
    third = mask_of(answered(studio.click(0.5, 0.45, negative=True)))
    assert not third[int(0.45 * third.shape[0]), int(0.5 * third.shape[1])]
    assert third[int(0.33 * third.shape[0]), int(0.52 * third.shape[1])]
    assert len(studio.suggestions) == 1  # the newest answer takes the place of the one before
    studio.shot("4-corrected")


def test_a_rejected_mask_does_not_come_back(demo: Demo, studio: Studio) -> None:
    studio.open(demo.project, task_of(demo, "person-6"))
    studio.auto_annotate()
    studio.pick("Upper-clothes")
    right = mask_of(answered(studio.click(0.5, 0.35)))
    studio.reject()
    studio.pick("Upper-clothes")
    wrong = mask_of(answered(studio.click(0.1, 0.1)))  # on the wall
    assert wrong[int(0.1 * wrong.shape[0]), int(0.1 * wrong.shape[1])]
    studio.reject()
    assert studio.regions == []
    studio.pick("Upper-clothes")
    again = mask_of(answered(studio.click(0.5, 0.35)))
    assert not again[int(0.1 * wrong.shape[0]), int(0.1 * wrong.shape[1])]
    assert (again ^ right).mean() < 0.001  # the mouse may be off by a part of a pixel


def test_a_mask_that_nobody_accepted_stays_when_the_next_label_is_clicked(demo: Demo, studio: Studio) -> None:
    task = task_of(demo, "person-4")
    studio.open(demo.project, task)
    studio.auto_annotate()
    places = {"Face": (0.5, 0.13), "Upper-clothes": (0.5, 0.35), "Pants": (0.45, 0.6)}
    for label, place in places.items():
        studio.pick(label)
        studio.click(*place)
    assert sorted(s["labels"] for s in studio.suggestions) == sorted([label] for label in places)
    studio.pick("Pants")
    studio.click(0.44, 0.72)  # a correction of the last takes none of the others away
    assert sorted(s["labels"] for s in studio.suggestions) == sorted([label] for label in places)
    studio.shot("8-all-are-open")
    studio.accept()
    studio.submit()
    (annotation,) = demo.client.annotations(task)
    labels = [r["value"]["brushlabels"] for r in annotation["result"] if r["type"] == "brushlabels"]
    assert sorted(labels) == sorted([label] for label in places)


def test_auto_accept_keeps_each_part(demo: Demo, studio: Studio) -> None:
    task = task_of(demo, "person-2")
    studio.open(demo.project, task)
    studio.auto_annotate()
    studio.auto_accept(True)
    for label, x, y in (("Face", 0.5, 0.13), ("Upper-clothes", 0.5, 0.35), ("Pants", 0.45, 0.6)):
        studio.pick(label)
        studio.click(x, y)
    studio.shot("5-auto-accept")
    studio.submit()
    (annotation,) = demo.client.annotations(task)
    masks = [mask_of(r) for r in annotation["result"] if r["type"] == "brushlabels"]
    assert len(masks) == 3
    assert np.stack(masks).sum(0).max() == 1  # no pixel is in two


def test_an_accepted_mask_is_corrected_in_place(demo: Demo, studio: Studio) -> None:
    """A click beside it adds, Ctrl+Alt+click inside it takes away; the region stays one, and so does its id."""
    task = task_of(demo, "person-5")
    studio.open(demo.project, task)
    studio.auto_annotate()
    studio.pick("Upper-clothes")
    first = answered(studio.click(0.5, 0.35))
    studio.accept()
    studio.wait_until_saved(1)
    for place in ((0.5, 0.05), (0.95, 0.4)):
        studio.pick("Upper-clothes")
        grown = answered(studio.click(*place))
        assert grown["id"] == first["id"]
        studio.accept()
        assert [region["id"] for region in studio.regions] == [first["id"]]
    studio.pick("Upper-clothes")
    shrunk = answered(studio.click(0.5, 0.35, negative=True, inside=True))
    assert shrunk["id"] == first["id"]
    studio.accept()
    studio.shot("7-corrected-in-place")
    studio.submit()
    (annotation,) = demo.client.annotations(task)
    (region,) = annotation["result"]
    mask = mask_of(region)
    height, width = mask.shape
    before = mask_of(first)
    for x, y in ((0.5, 0.05), (0.95, 0.4)):
        assert mask[int(y * height), int(x * width)]
    assert not mask[int(0.35 * height), int(0.5 * width)]
    changed = before ^ mask
    assert changed.mean() < 0.5 * before.mean()  # corrections are local


def test_retrieved_predictions_are_the_first_masks(demo: Demo, studio: Studio) -> None:
    task = task_of(demo, "person-3")
    demo.client.post(
        f"/api/dm/actions?id=retrieve_tasks_predictions&project={demo.project}",
        {"selectedItems": {"all": False, "included": [task]}},
    )
    until = time.monotonic() + 60
    while not (predictions := demo.client.predictions(task)) and time.monotonic() < until:
        time.sleep(0.5)
    (prediction,) = predictions
    assert 0 < prediction["score"] <= 1
    assert prediction["model_version"].startswith("lip")
    labels = [region["value"]["brushlabels"][0] for region in prediction["result"]]
    assert len(set(labels)) == len(labels) >= 4
    studio.open(demo.project, task)
    assert len(studio.regions) == len(labels)
    studio.shot("6-preannotated")


def test_an_image_that_is_gone_does_not_break_the_page(demo: Demo) -> None:
    before = {task["id"] for task in demo.client.list_tasks(demo.project)}
    demo.client.import_tasks(demo.project, [{"data": {"image": "/data/upload/1/gone.jpg"}}])
    (task,) = {task["id"] for task in demo.client.list_tasks(demo.project)} - before
    (backend,) = demo.client.list_ml_backends(demo.project)
    body = {"task": task, "context": {"result": []}}
    answer = demo.client.post(f"/api/ml/{backend['id']}/interactive-annotating", body)
    assert answer["data"]["result"] == []
    assert re.search(r"gone\.jpg' cannot be had: \S+ answered \d+", answer["data"]["error"])
    log = (demo.data_dir / "logs" / "backend.log").read_text()
    assert re.search(r"task skipped: the image '\S+/gone\.jpg' cannot be had: \S+ answered \d+", log)


def test_a_photo_that_cannot_be_had_has_its_reason_in_the_test_request(demo: Demo, studio: Studio) -> None:
    """Of a click Label Studio shows no error at all; its test request, in the model's settings, shows the answer."""
    project = new_project(demo, "No photo", label_config_of("lip"))
    demo.client.import_tasks(project, [{"data": {"image": f"/data/upload/{project}/gone.jpg"}}])
    studio.page.goto(f"{demo.url}/projects/{project}/settings/ml")
    studio.page.get_by_label("Machine learning model options").click()
    studio.page.get_by_text("Send Test Request", exact=True).click()
    studio.page.get_by_role("button", name="Send Request", exact=True).click()
    studio.page.get_by_text("gone.jpg' cannot be had").first.wait_for(timeout=30_000)
    studio.shot("10-the-reason")


def test_connect_as_the_readme_says(demo: Demo, tmp_path: Path) -> None:
    """A backend that was told nothing of Label Studio: `ihp serve`, `ihp connect`, a click."""
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("IHP_")}
    ihp = [sys.executable, "-m", "ihp_backend"]
    serve = subprocess.Popen([*ihp, "serve", "--port", str(port)], env={**environ, "IHP_DATA_DIR": str(tmp_path)})
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                if requests.get(f"http://127.0.0.1:{port}/ready", timeout=1).ok:
                    break
            except requests.RequestException:
                time.sleep(0.2)
        token = json.loads((demo.data_dir / "credentials.json").read_text())["token"]
        connect = [*ihp, "connect", "--url", demo.url, "--token", token, "--backend", f"http://127.0.0.1:{port}"]
        done = subprocess.run([*connect, "--new", "Street photos"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"the backend reaches Label Studio at {demo.url}" in done.stdout
        project = int(re.search(r"click here: \S+/projects/(\d+)/data", done.stdout)[1])  # type: ignore[index]
        demo.client.import_files(project, [demo.data_dir / "photos" / "person-6.jpg"])
        (task,) = demo.client.list_tasks(project)
        value = {"x": 50, "y": 36, "width": 0.3, "keypointlabels": ["Upper-clothes"]}
        ends = {"from_name": "click", "to_name": "image", "type": "keypointlabels"}
        context = {"result": [{"id": "k", "is_positive": True, "value": value, **ends}]}
        (backend,) = demo.client.list_ml_backends(project)
        ask = f"/api/ml/{backend['id']}/interactive-annotating"
        (region,) = demo.client.post(ask, {"task": task["id"], "context": context})["data"]["result"]
        assert mask_of(region).any()
        again = subprocess.run([*connect, "--project", str(project)], capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stdout + again.stderr
        assert len(demo.client.list_ml_backends(project)) == 1
    finally:
        serve.terminate()
        serve.wait(30)


def test_a_second_start_is_quick_and_keeps_everything(demo: Demo) -> None:
    before = {task["id"]: len(demo.client.annotations(task["id"])) for task in demo.client.list_tasks(demo.project)}
    assert sum(before.values()) >= 2
    stop_demo(demo)
    started = time.monotonic()
    again = start_demo(demo.command, demo.data_dir, 60)
    print(f"second start: {time.monotonic() - started:.1f} s")
    demo.process = again.process  # the other tests go on with it
    assert (again.project, again.password) == (demo.project, demo.password)
    after = {t["id"]: len(again.client.annotations(t["id"])) for t in again.client.list_tasks(again.project)}
    assert after == before
    assert "as you left it" in again.printed
