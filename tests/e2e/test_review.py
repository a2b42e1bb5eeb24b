"""``ihp review`` sorts the real Label Studio's list, and leaves annotations alone."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner
from drawn_group import drawn
from one_region import mask_region
from running_demo import Demo, new_project

from ihp_backend.cli import main
from ihp_backend.demo.project import label_config_of
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import LIP

pytestmark = pytest.mark.e2e


def test_the_list_is_sorted_by_doubt(demo: Demo, tmp_path: Path) -> None:
    config = LabelConfig.parse(label_config_of("lip"))
    label_of = {LIP.names.index(names[0]): label for label, names in config.parts(LIP).items()}
    project = new_project(demo, "To review", label_config_of("lip"))
    files = [tmp_path / f"photo-{seed}.png" for seed in range(3)]
    for seed, file in enumerate(files):
        cv2.imwrite(str(file), drawn(seed)[0][..., ::-1])
    demo.client.import_files(project, files)
    tasks = [int(task["id"]) for task in demo.client.list_tasks(project)]
    for seed, task in enumerate(tasks):
        ids = drawn(seed)[1]
        masks = {label: ids == number for number, label in label_of.items() if label in ("Face", "Upper-clothes")}
        if seed == 1:
            masks["Left-shoe"] = masks.pop("Face")
        demo.client.create_annotation(task, [mask_region(mask, label, 1.0, config) for label, mask in masks.items()])
    before = [demo.client.annotations(task) for task in tasks]
    environ = {"IHP_DATA_DIR": str(tmp_path / "state"), "IHP_DEVICE": "cpu"}
    arguments = ["review", "--project", str(project), "--url", demo.url, "--token", demo.client.token]
    for again in (False, True):
        done = CliRunner(env=environ).invoke(main, arguments)
        assert done.exit_code == 0, done.output
        assert ("has a tab" in done.output) != again
    assert [demo.client.annotations(task) for task in tasks] == before
    columns = demo.client.get("/api/dm/columns/", project=project)["columns"]
    assert {"ihp_doubt", "ihp_doubt_reason"} <= {column["id"] for column in columns}
    (tab,) = [t for t in demo.client.get("/api/dm/views/", project=project) if t["data"]["title"] == "Likely wrong"]
    shown = demo.client.get("/api/tasks/", view=tab["id"], project=project, page=1, page_size=10)["tasks"]
    doubts = [task["data"]["ihp_doubt"] for task in shown]
    assert doubts == sorted(doubts, reverse=True)
    assert len(doubts) == 3
    assert int(shown[0]["id"]) == tasks[1]
    query = json.dumps({"ordering": ["tasks:data.ihp_doubt"]})
    rising = demo.client.get("/api/tasks/", project=project, page=1, page_size=10, query=query)["tasks"]
    assert [task["id"] for task in rising] == [task["id"] for task in reversed(shown)]
