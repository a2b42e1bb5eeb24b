"""Two people in one photo of the real Label Studio: each by themselves predicted, corrected, submitted, exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from drawn_group import group, middle
from PIL import Image
from running_demo import Demo, new_project
from studio import Studio, answered, mask_of

from ihp_backend.cli import main
from ihp_backend.demo.project import label_config_of
from ihp_backend.parts import CIHP

pytestmark = pytest.mark.e2e


def person(region: dict[str, Any]) -> int | None:
    return (region.get("meta") or {}).get("ihp", {}).get("person")  # type: ignore[no-any-return]


def ihp(demo: Demo, tmp_path: Path, command: str, project: int, *options: str) -> None:
    environ = {"IHP_DATA_DIR": str(tmp_path / "state"), "IHP_DEVICE": "cpu"}
    access = ["--url", demo.url, "--token", demo.client.token]
    done = CliRunner(env=environ).invoke(main, [command, "--project", str(project), *access, *options])
    assert done.exit_code == 0, done.output


def test_each_persons_parts_are_predicted_corrected_and_exported(demo: Demo, studio: Studio, tmp_path: Path) -> None:
    photo, truth = group(0, 1, step=230)
    cv2.imwrite(str(tmp_path / "two.png"), photo[..., ::-1])
    project = new_project(demo, "Two people", label_config_of("cihp"))
    demo.client.import_files(project, [tmp_path / "two.png"])
    (task,) = (int(task["id"]) for task in demo.client.list_tasks(project))
    ihp(demo, tmp_path, "preannotate", project)
    (predicted,) = next(iter(demo.client.select_tasks(project, annotated=False)))["predictions"]
    kinds = {(r["value"]["brushlabels"][0], person(r)) for r in predicted["result"]}
    assert len(kinds) == len(predicted["result"]) > 6
    assert {number for _, number in kinds} == {1, 2}
    studio.page.set_default_timeout(120_000)
    studio.open(project, task)
    assert len(studio.regions) == len(kinds)
    studio.auto_annotate()
    studio.pick("Upper-clothes")
    x, y = middle(truth[1] == CIHP.names.index("upper-clothes"))
    region = answered(studio.click(x / photo.shape[1], y / photo.shape[0], inside=True))
    (corrected,) = [
        r for r in predicted["result"] if r["value"]["brushlabels"] == ["Upper-clothes"] and mask_of(r)[int(y), int(x)]
    ]
    assert (region["id"], person(region)) == (corrected["id"], person(corrected))
    studio.accept()
    studio.submit()
    (annotation,) = demo.client.annotations(task)
    masks = [r for r in annotation["result"] if r["type"] == "brushlabels"]
    assert {(r["value"]["brushlabels"][0], person(r)) for r in masks} == kinds
    ihp(demo, tmp_path, "export", project, "--layout", "cihp", "--out", str(tmp_path / "out"))
    (human,) = (tmp_path / "out").rglob("Human_ids/*.png")
    people = np.asarray(Image.open(human))
    for number in (1, 2):
        theirs = np.any([mask_of(r) for r in masks if person(r) == number], axis=0)
        assert ((people == number) & ~theirs).sum() == 0
        assert (people == number).sum() > 0.99 * theirs.sum()
