"""``ihp review`` on a Label Studio of one project: who is doubtful is told, and nothing else changes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from drawn_group import drawn
from fake_label_studio import LEGACY
from fake_project import FakeProject, region
from paged_configs import CONFIGS, data_of, on_photo
from PIL import Image

from ihp_backend.cli import main
from ihp_backend.commands import review as command
from ihp_backend.demo.project import label_config_of
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import LIP

PARTS = LabelConfig.parse(label_config_of("lip")).parts(LIP)
LABEL_OF = {LIP.names.index(names[0]): label for label, names in PARTS.items()}
SEEDS = {1: 1, 2: 2, 3: 12, 4: 15}
"""Drawn people whose faces and clothes the weights, which have seen photos only, are sure of."""
CUT, SWAPPED = 2, 3
"""The tasks whose upper clothes are cut to a third, and whose face is said to be a shoe."""


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeProject]:
    monkeypatch.setattr(command, "NICE", 0)
    with FakeProject() as fake:
        fake.project |= {"label_config": label_config_of("lip"), "num_tasks_with_annotations": 4}
        for number, seed in SEEDS.items():
            image, ids = drawn(seed)
            masks = {label: ids == number for number, label in LABEL_OF.items() if label in ("Face", "Upper-clothes")}
            if number == CUT:
                rows = np.flatnonzero(masks["Upper-clothes"].any(1))
                masks["Upper-clothes"][rows[len(rows) // 3] :] = False
            if number == SWAPPED:
                masks["Left-shoe"] = masks.pop("Face")
            fake.add(number, *(region(label, mask, id=label) for label, mask in masks.items()))
            Image.fromarray(image).save(tmp_path / "photo.png")
            fake.files[f"/data/upload/1/photo-{number}.png"] = (tmp_path / "photo.png").read_bytes()
        yield fake


def run(tmp_path: Path, project: FakeProject, *options: str) -> Result:
    environ = {
        "IHP_DATA_DIR": str(tmp_path / "state"),
        "IHP_LABEL_STUDIO_URL": project.url,
        "IHP_LABEL_STUDIO_TOKEN": LEGACY,
        "IHP_DEVICE": "cpu",
    }
    return CliRunner(env=environ).invoke(main, ["review", "--project", "1", *options])


def test_wrong_annotations_come_first_and_stay_as_they_are(tmp_path: Path, project: FakeProject) -> None:
    before = copy.deepcopy(project.tasks)
    done = run(tmp_path, project)
    assert done.exit_code == 0, done.output
    assert "4 tasks judged, 0 left out" in done.output
    after = copy.deepcopy(project.tasks)
    data = {number: task["data"] for number, task in project.tasks.items()}
    order = sorted(data, key=lambda number: -data[number]["ihp_doubt"])
    assert set(order[:2]) == {CUT, SWAPPED}
    assert data[SWAPPED]["ihp_doubt_reason"] == "Left-shoe: looks like Face"
    assert data[CUT]["ihp_doubt_reason"] == "Upper-clothes: more of it is seen beside the mask"
    for number, task in after.items():
        assert 0 <= task["data"].pop("ihp_doubt") <= 1
        del task["data"]["ihp_doubt_reason"]
        assert task == before[number]
    (tab,) = project.tabs
    assert tab["data"]["ordering"] == ["-tasks:data.ihp_doubt"]
    writes = len(project.writes())
    assert run(tmp_path, project).exit_code == 0
    assert len(project.writes()) == writes, "the same again writes nothing"


def test_a_dry_run_writes_nothing(tmp_path: Path, project: FakeProject) -> None:
    done = run(tmp_path, project, "--dry-run")
    assert "looks like Face" in done.output
    assert project.writes() == []


def test_what_cannot_be_judged_is_named(tmp_path: Path, project: FakeProject) -> None:
    del project.files["/data/upload/1/photo-1.png"]
    project.tasks[4]["annotations"][0]["result"] = [region("Face", np.ones((9, 9), bool))]
    done = run(tmp_path, project)
    assert done.exit_code == 3
    assert "left out: task 1" in done.output
    assert "left out: task 4: a mask is for a photo of 9x9" in done.output
    assert "2 tasks judged, 2 left out" in done.output
    assert "ihp_doubt" not in project.tasks[1]["data"]


def test_labels_that_the_weights_do_not_know_are_named(tmp_path: Path, project: FakeProject) -> None:
    xml = label_config_of("lip").replace('value="Face"', 'value="Tattoo"')
    project.project["label_config"] = xml
    done = run(tmp_path, project)
    assert "not judged, for the weights do not know them: Tattoo" in done.output
    assert done.exit_code == 0


def test_a_label_studio_that_stops_ends_it_with_a_reason_and_what_was_written_stays(
    tmp_path: Path, project: FakeProject
) -> None:
    project.fails["/api/tasks/3/"] = 503
    stopped = run(tmp_path, project)
    assert stopped.exit_code == 1
    assert "503" in stopped.output
    assert [n for n, task in project.tasks.items() if "ihp_doubt" in task["data"]] == [1, 2]
    project.fails.clear()
    assert run(tmp_path, project).exit_code == 0
    assert all("ihp_doubt" in task["data"] for task in project.tasks.values())


def test_of_several_photos_the_most_doubtful_mask_counts(tmp_path: Path, project: FakeProject) -> None:
    kind = "valueList"
    urls = [f"/data/upload/1/photo-{number}.png" for number in (1, SWAPPED)]
    regions = []
    for place, number in enumerate((1, SWAPPED)):
        made = next(r for r in project.tasks[number]["annotations"][0]["result"] if r["id"] in ("Face", "Left-shoe"))
        label = "Face" if place == 0 else "Hair"
        regions.append(made | {"value": made["value"] | {"brushlabels": [label]}, **on_photo(kind, place, "mask")})
    task = project.tasks[1] | {"data": data_of(kind, *urls)}
    task["annotations"][0]["result"] = regions
    project.tasks = {1: task}
    project.project["label_config"] = CONFIGS[kind]
    assert run(tmp_path, project).exit_code == 0
    assert project.tasks[1]["data"]["photos"] == urls
    assert project.tasks[1]["data"]["ihp_doubt_reason"] == "Hair: looks like Face"
