"""A data set goes into the real Label Studio and comes out the same, and opens with its masks."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from running_demo import Demo, drawn_people, new_project
from studio import Studio, mask_of

from ihp_backend.cli import main
from ihp_backend.data.catalogue import open_data_set
from ihp_backend.demo.project import label_config_of
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import LIP

pytestmark = pytest.mark.e2e

SPLITS = ("train", "val")


def ihp(demo: Demo, tmp_path: Path, command: str, project: int, *options: str) -> str:
    environ = {"IHP_DATA_DIR": str(tmp_path / "state")}
    access = ["--url", demo.url, "--token", demo.client.token]
    done = CliRunner(env=environ).invoke(main, [command, "--project", str(project), *access, *options])
    assert done.exit_code == 0, done.output
    return done.output


def test_what_is_imported_is_exported_the_same(demo: Demo, tmp_path: Path) -> None:
    data = drawn_people(tmp_path / "data")
    project = new_project(demo, "Data set", label_config_of("lip"))
    options = ["--data", str(data), "--as", "annotations"]
    assert "12 tasks made with their masks as annotations, 0 were there" in ihp(
        demo, tmp_path, "import", project, *options
    )
    assert "0 tasks made with their masks as annotations, 12 were there" in ihp(
        demo, tmp_path, "import", project, *options
    )
    assert len(list(demo.client.list_tasks(project))) == 12
    out = tmp_path / "out"
    assert "12 tasks written, 0 were there, 0 left out" in ihp(demo, tmp_path, "export", project, "--out", str(out))
    assert "0 tasks written, 12 were there, 0 left out" in ihp(demo, tmp_path, "export", project, "--out", str(out))
    for split in SPLITS:
        before, after = open_data_set(data, split), open_data_set(out, split)
        assert list(after.names) == list(before.names)
        assert after.schema is LIP
        for i in range(len(before)):
            assert (after[i].labels == before[i].labels).all()
            assert (after[i].image == before[i].image).all()


def test_an_imported_task_opens_with_its_masks(demo: Demo, studio: Studio, tmp_path: Path) -> None:
    data = drawn_people(tmp_path / "data")
    project = new_project(demo, "To correct", label_config_of("lip"))
    ihp(demo, tmp_path, "import", project, "--data", str(data), "--split", "val")
    tasks = list(demo.client.list_tasks(project))
    assert len(tasks) == 4
    photos = open_data_set(data, "val")
    sample = photos[list(photos.names).index(tasks[0]["data"]["ihp_name"])]
    parts = LabelConfig.parse(label_config_of("lip")).parts(LIP)
    expected = {label for label, names in parts.items() if (sample.labels == LIP.names.index(names[0])).any()}
    studio.page.set_default_timeout(120_000)  # a dozen masks, in a browser without a GPU
    studio.open(project, int(tasks[0]["id"]))
    assert {region["labels"][0] for region in studio.regions} == expected
    studio.submit()
    (annotation,) = demo.client.annotations(int(tasks[0]["id"]))
    for region in annotation["result"]:
        (part,) = parts[region["value"]["brushlabels"][0]]
        assert (mask_of(region) == (sample.labels == LIP.names.index(part))).all()
