from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ihp_backend.data.synthetic import draw_person
from ihp_backend.parts import LIP


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder data set of four drawn people, three to train on."""
    root = tmp_path_factory.mktemp("people")
    for folder in ("images", "labels", "splits"):
        (root / folder).mkdir()
    for number in range(4):
        image, labels = draw_person(np.random.default_rng(number), 96, 64)
        cv2.imwrite(str(root / f"images/{number}.png"), image[..., ::-1])
        Image.fromarray(labels).save(root / f"labels/{number}.png")
    classes = [{"id": i, "name": n, "colour": [0, 0, i]} for i, n in enumerate(LIP.names)]
    (root / "classes.json").write_text(json.dumps({"classes": classes, "flip_pairs": [[14, 15], [16, 17], [18, 19]]}))
    (root / "splits/train.txt").write_text("0\n1\n2\n")
    (root / "splits/val.txt").write_text("3\n")
    return root
