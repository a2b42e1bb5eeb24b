"""Tasks of several photos in the real Label Studio: a click on the second is answered, saved and exported there."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from drawn_task import PERSON, middle
from paged_configs import CONFIGS, data_of, on_photo
from PIL import Image
from running_demo import Demo, new_project
from studio import Studio, answered, mask_of

from ihp_backend.cli import main
from ihp_backend.data.synthetic import draw_person
from ihp_backend.parts import LIP

pytestmark = pytest.mark.e2e

SIZES = ((360, 240), (300, 210))
"""Height and width of the two photos."""


@pytest.mark.parametrize("kind", ["valueList", "repeater"])
def test_the_second_photo_of_a_task(demo: Demo, studio: Studio, tmp_path: Path, kind: str) -> None:
    files = [tmp_path / f"photo-{place}.png" for place in range(2)]
    truths = []
    for file, size in zip(files, SIZES, strict=True):
        image, truth = draw_person(np.random.default_rng(PERSON), *size)
        cv2.imwrite(str(file), image[..., ::-1])
        truths.append(truth)
    project = new_project(demo, f"Several photos {kind}", CONFIGS[kind])
    urls = demo.client.upload_files(project, files)
    demo.client.import_tasks(project, [{"data": data_of(kind, *urls)}])
    (task,) = (int(task["id"]) for task in demo.client.list_tasks(project))
    studio.page.set_default_timeout(60_000)
    studio.page.set_viewport_size({"width": 1400, "height": 1400})  # the labels are below the photo
    for place in range(2):
        studio.open(project, task)
        if place:
            studio.page.locator(".lsf-pagination__btn_arrow-right:not(.lsf-pagination__btn_arrow-right-double)").click()
            studio.page.wait_for_timeout(1500)
        studio.auto_annotate()
        studio.pick("Face")
        region = answered(studio.click(*middle(truths[place] == LIP.names.index("face"))))
        expected = on_photo(kind, place, "mask")
        assert {key: region[key] for key in expected} == expected
        assert (region["original_height"], region["original_width"]) == SIZES[place]
        studio.accept()
        studio.wait_until_saved(place + 1)
    studio.submit()
    (annotation,) = demo.client.annotations(task)
    masks = [r for r in annotation["result"] if r["type"] == "brushlabels"]
    assert [(r["original_height"], r["original_width"]) for r in masks] == list(SIZES)
    environ = {"IHP_DATA_DIR": str(tmp_path / "state")}
    arguments = ["export", "--project", str(project), "--url", demo.url, "--token", demo.client.token]
    done = CliRunner(env=environ).invoke(main, [*arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "out/report.csv").read_text().splitlines()))
    assert [row["photo_of_task"] for row in rows] == ["1", "2"]
    for row, region in zip(rows, masks, strict=True):
        labels = np.asarray(Image.open(tmp_path / f"out/labels/{row['photo']}.png"))
        assert np.array_equal(labels > 0, mask_of(region))
