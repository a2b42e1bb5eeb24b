"""A drawn person in a project of the real Label Studio, and where to click on them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from running_demo import Demo, new_project
from studio import Studio

from ihp_backend.data.synthetic import draw_person

PERSON = 38
"""The drawn person of this seed has all parts, and none so thin that another one's mask covers its middle."""


def middle(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """The innermost place of a mask, as shares of the photo's width and height."""
    height, width = mask.shape
    row, column = np.unravel_index(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5).argmax(), mask.shape)
    return (float(column) + 0.5) / width, (float(row) + 0.5) / height


def open_person(
    demo: Demo, studio: Studio, folder: Path, title: str, xml: str, size: tuple[int, int]
) -> tuple[int, int, NDArray[np.uint8]]:
    """Opens the person, drawn at a height and width, with the wand; returns the project, the task, the true labels."""
    image, truth = draw_person(np.random.default_rng(PERSON), *size)
    cv2.imwrite(str(folder / "person.png"), image[..., ::-1])
    project = new_project(demo, title, xml)
    demo.client.import_files(project, [folder / "person.png"])
    (task,) = (int(task["id"]) for task in demo.client.list_tasks(project))
    studio.open(project, task)
    studio.auto_annotate()
    return project, task, truth
