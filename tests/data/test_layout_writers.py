"""What is written is read again by the loaders, and by Pillow."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.data.catalogue import open_data_set
from ihp_backend.data.composition import Composition, Layer, compose
from ihp_backend.data.layout_writers import WRITERS, LabelledPhoto, ListedPhoto, grey_png, indexed_png
from ihp_backend.parts import CIHP, IGNORE, OPEN, Schema

HEIGHT, WIDTH = 12, 9
PHOTO = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
OWN = OPEN.extended(["Left-glove", "Right-glove", "Bag", "Ball", "Rope"])


def layer(rows: slice, class_id: int | None, person: int | None = None) -> Layer:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[rows, 1:] = True
    return Layer(mask, f"label {class_id}", class_id, person)


def composition() -> Composition:
    layers = [layer(slice(0, 2), 1, 1), layer(slice(2, 4), 2, 1), layer(slice(4, 6), 2, 2), layer(slice(6, 8), 5)]
    return compose([*layers, layer(slice(8, 9), None)], HEIGHT, WIDTH)


def photo_file() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).save(buffer, "PNG")
    return buffer.getvalue()


def write(root: Path, layout: str, names: dict[str, list[str]], *, grey: bool = False) -> Schema:
    writer = WRITERS[layout]
    schema = writer.schema or OWN
    files: dict[str, bytes] = {}
    listed: dict[str, list[ListedPhoto]] = {}
    for split, of_split in names.items():
        for name in of_split:
            photo = LabelledPhoto(name, split, photo_file(), ".png", composition())
            files |= writer.files(photo, grey_png if grey else indexed_png(schema))
        listed[split] = [ListedPhoto(1, name, split, ".png", WIDTH, HEIGHT, list) for name in of_split]
    for path, content in (files | writer.lists(listed, schema)).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return schema


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("layout", [layout for layout in WRITERS if layout != "coco"])
def test_the_loader_reads_what_is_written(tmp_path: Path, layout: str, grey: bool) -> None:
    names = {"train": ["a", "photo 2 (1)", "ünï"], "val": ["b"]}
    schema = write(tmp_path, layout, names, grey=grey)
    expected = composition().labels
    if layout == "helen":
        expected = np.where(expected == IGNORE, 0, expected)
    for split, of_split in names.items():
        data = open_data_set(tmp_path, split, layout)
        assert list(data.names) == of_split
        assert data.schema.names == (OPEN.names[0], *schema.names[1:]) if layout == "folder" else schema.names
        for sample in (data[i] for i in range(len(data))):
            assert (sample.labels == expected).all()
            assert (sample.image == PHOTO).all()


def test_label_images_have_the_ids_as_indices_and_the_colours_as_palette(tmp_path: Path) -> None:
    write(tmp_path, "lip", {"train": ["a"]})
    with Image.open(next(tmp_path.rglob("train_segmentations/a.png"))) as image:
        assert image.mode == "P"
        assert (np.array(image) == composition().labels).all()
        palette = np.array(image.getpalette()).reshape(-1, 3)
        assert (palette[: len(CIHP)] == np.array(WRITERS["lip"].schema.colours)).all()  # type: ignore[union-attr]
        assert palette[IGNORE].tolist() == [255, 255, 255]


def test_cihp_tells_people_and_instances_apart(tmp_path: Path) -> None:
    write(tmp_path, "cihp", {"val": ["a"]})
    folder = tmp_path / "instance-level_human_parsing" / "Validation"

    def read(kind: str) -> NDArray[np.uint8]:
        return np.array(Image.open(folder / kind / "a.png"))

    category, human, instance = (read(kind) for kind in ("Category_ids", "Human_ids", "Instance_ids"))
    rows = [line.split() for line in (folder / "Instance_ids" / "a.txt").read_text().splitlines()]
    assert rows == [["1", "1", "1"], ["2", "2", "1"], ["3", "2", "2"], ["4", "5", "0"]]
    assert set(np.unique(instance)) == {0, 1, 2, 3, 4}
    for number, class_id, person in (map(int, row) for row in rows):
        assert np.unique(category[instance == number]).tolist() == [class_id]
        assert np.unique(human[instance == number]).tolist() == [person]


def test_more_than_255_instances_take_16_bits(tmp_path: Path) -> None:
    masks = np.eye(400, dtype=bool).reshape(400, 20, 20)
    found = compose([Layer(mask, "Hat", 1) for mask in masks], 20, 20)
    files = WRITERS["cihp"].files(LabelledPhoto("a", "train", b"", ".png", found), grey_png)
    png = next(content for path, content in files.items() if path.endswith("Instance_ids/a.png"))
    assert (np.array(Image.open(io.BytesIO(png))) == np.arange(1, 401).reshape(20, 20)).all()


def test_a_folder_knows_left_from_right(tmp_path: Path) -> None:
    write(tmp_path, "folder", {"train": ["a"]})
    classes = json.loads((tmp_path / "classes.json").read_text())
    assert classes["flip_pairs"] == [[1, 2]]
    assert open_data_set(tmp_path, "train").schema.mirrored == OWN.mirrored
