"""Work on a photo that opens with a prediction's masks: no mask twice, none empty, whatever is saved when."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from drawn_task import PERSON, middle
from one_region import mask_region
from running_demo import Demo, new_project
from studio import Studio, mask_of

from ihp_backend.data.synthetic import draw_person
from ihp_backend.demo.project import label_config_of
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import LIP

pytestmark = pytest.mark.e2e

HEIGHT, WIDTH = 450, 300
GUESSED = {"Face": ("face",), "Hair": ("hair",), "Dress": ("upper-clothes",), "Pants": ("pants",)}
"""What is predicted, and where it is: the clothes are taken for a dress, and a stain on them for a scarf."""


@pytest.fixture(scope="module")
def predicted(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[int]]:
    """A project of one photo three times, each with a prediction; its number and the tasks'."""
    folder = tmp_path_factory.mktemp("first")
    image, truth = draw_person(np.random.default_rng(PERSON), HEIGHT, WIDTH)
    files = [folder / f"person-{n}.png" for n in range(3)]
    for file in files:
        cv2.imwrite(str(file), image[..., ::-1])
    project = new_project(demo, "First masks", label_config_of("lip"))
    demo.client.import_files(project, files)
    tasks = [int(task["id"]) for task in demo.client.list_tasks(project)]
    config = LabelConfig.parse(label_config_of("lip"))
    masks = {label: np.isin(truth, [LIP.names.index(p) for p in parts]) for label, parts in GUESSED.items()}
    x, y = middle(masks["Dress"])
    masks["Scarf"] = np.zeros_like(masks["Dress"])
    masks["Scarf"][int(y * HEIGHT) + 6 :, :][:12, int(x * WIDTH) :][:, :10] = True
    masks["Dress"] &= ~masks["Scarf"]
    for task in tasks:
        regions = [mask_region(mask, label, 0.5, config) for label, mask in masks.items()]
        body = {"task": task, "model_version": "somebody", "score": 0.5, "result": regions}
        demo.client.post("/api/predictions/", body)
    return project, tasks


@pytest.mark.parametrize("saves", ["never", "between", "auto-accept"])
def test_no_mask_twice_and_none_empty(demo: Demo, studio: Studio, predicted: tuple[int, list[int]], saves: str) -> None:
    project, tasks = predicted
    task = tasks[["never", "between", "auto-accept"].index(saves)]
    _, truth = draw_person(np.random.default_rng(PERSON), HEIGHT, WIDTH)
    studio.open(project, task)
    opened = {region["labels"][0] for region in studio.regions}
    assert opened == {*GUESSED, "Scarf"}
    studio.auto_annotate()
    studio.auto_accept(saves == "auto-accept")
    shirt = middle(truth == LIP.names.index("upper-clothes"))
    pants = middle(truth == LIP.names.index("pants"))
    started = time.monotonic()
    for label, place in (("Upper-clothes", shirt), ("Pants", pants)):
        studio.pick(label)
        studio.click(*place, inside=True)
        if saves != "auto-accept":
            studio.accept()
        if saves == "between":
            studio.wait_until_saved(len(studio.regions))
        studio.shot(f"f-{saves}-{label}")
    if saves == "never":
        assert time.monotonic() - started < 60
    labels = [region["labels"] for region in studio.regions]
    assert sorted(labels) == [["Face"], ["Hair"], ["Pants"], ["Upper-clothes"]]
    assert not any(region["type"] == "keypointregion" for region in studio.regions)
    studio.submit()
    (annotation,) = demo.client.annotations(task)
    masks = [mask_of(region) for region in annotation["result"]]
    assert len(masks) == 4
    assert all(mask.any() for mask in masks)
    assert np.stack(masks).sum(0).max() == 1
