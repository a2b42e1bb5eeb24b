"""Data sets of two photos in every published layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.parts import LIP

IMAGE = np.random.default_rng(0).integers(0, 255, (24, 18, 3), np.uint8)


LABELS = (np.arange(24 * 18).reshape(24, 18) // 80).astype(np.uint8)  # ids 0 to 5


def put(path: Path, array: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def folder(root: Path) -> None:
    for name in ("a", "b"):
        put(root / f"images/{name}.png", IMAGE)
        put(root / f"labels/{name}.png", LABELS)
    classes = [{"id": i, "name": n, "colour": [i, 0, 0]} for i, n in enumerate(LIP.names)]
    (root / "classes.json").write_text(json.dumps({"classes": classes, "flip_pairs": [[14, 15], [16, 17], [18, 19]]}))
    (root / "splits").mkdir()
    (root / "splits/train.txt").write_text("a\nb\n")


def lip(root: Path) -> None:
    for name in ("77_1", "88_2"):
        put(root / f"TrainVal_images/train_images/{name}.jpg", IMAGE)
        put(root / f"TrainVal_parsing_annotations/train_segmentations/{name}.png", LABELS)
    (root / "TrainVal_images/train_id.txt").write_text("77_1\n88_2\n")


def cihp(root: Path) -> None:
    base = root / "instance-level_human_parsing/Training"
    for name in ("0000001", "0000002"):
        put(base / f"Images/{name}.jpg", IMAGE)
        put(base / f"Category_ids/{name}.png", LABELS)
    (base / "train_id.txt").write_text("0000001\n0000002\n")


def pascal(root: Path) -> None:
    for name in ("2008_000003", "2008_000008"):
        put(root / f"JPEGImages/{name}.jpg", IMAGE)
        put(root / f"pascal_person_part_gt/{name}.png", LABELS)
    (root / "pascal_person_part_trainval_list").mkdir()
    (root / "pascal_person_part_trainval_list/train.txt").write_text("2008_000003\n2008_000008\n")


def helen(root: Path) -> None:
    for name in ("10_1", "11_1"):
        put(root / f"images/{name}.jpg", IMAGE)
        for i in range(11):
            put(root / f"labels/{name}/{name}_lbl{i:02d}.png", np.where(i == LABELS, 255, 0).astype(np.uint8))
    (root / "exemplars.txt").write_text("1 , 10_1\n2 , 11_1\n")


MAKERS: dict[str, Callable[[Path], None]] = {
    "folder": folder,
    "lip": lip,
    "cihp": cihp,
    "pascal-person-part": pascal,
    "helen": helen,
}
