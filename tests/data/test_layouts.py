"""Every published layout is read, and every hole in it is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from layouts import IMAGE, LABELS, MAKERS, folder, put
from PIL import Image

from ihp_backend.data.catalogue import LAYOUTS, first_photos, open_data_set
from ihp_backend.data.sample import DataError, DataSet, read_sample
from ihp_backend.data.synthetic import draw_person
from ihp_backend.parts import LIP


def made(layout: str, root: Path) -> DataSet:
    MAKERS[layout](root)
    return open_data_set(root, "train", layout)


def test_every_layout_is_tested() -> None:
    assert set(MAKERS) == set(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_published_layout_is_read(layout: str, tmp_path: Path) -> None:
    data = made(layout, tmp_path)
    assert len(data) == len(data.names) == 2
    sample = data[0]
    assert sample.name == data.names[0]
    assert sample.image.shape == (24, 18, 3)
    assert np.array_equal(sample.labels, LABELS)
    assert data.schema.name == ("lip" if layout == "folder" else layout)
    assert len(first_photos(data, 1)) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_folder_is_no_data_set(layout: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        open_data_set(tmp_path, "train", layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_missing_split_is_named(layout: str, tmp_path: Path) -> None:
    MAKERS[layout](tmp_path)
    with pytest.raises(DataError, match=r"(?i)val|tuning"):
        open_data_set(tmp_path, "val", layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", ["image", "label"])
def test_a_missing_file_is_named(layout: str, what: str, tmp_path: Path) -> None:
    data = made(layout, tmp_path)
    name = data.names[1]
    files = [p for p in tmp_path.rglob(f"{name}*.*") if p.suffix in (".png", ".jpg")]
    is_image = [p for p in files if "images" in str(p.parent).lower()]
    (is_image[0] if what == "image" else next(p for p in files if p not in is_image)).unlink()
    assert data[0].name != name
    with pytest.raises(DataError, match=f"{name}.*missing"):
        data[1]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "helen"])
@pytest.mark.parametrize("fault", ["size", "id", "colour", "garbage"])
def test_a_bad_label_image_is_named(layout: str, fault: str, tmp_path: Path) -> None:
    data = made(layout, tmp_path)
    (path,) = (p for p in tmp_path.rglob(f"{data.names[0]}.png") if "images" not in str(p.parent).lower())
    if fault == "size":
        put(path, LABELS[:-1])
    elif fault == "id":
        put(path, np.where(LABELS == 3, 77, LABELS).astype(np.uint8))
    elif fault == "colour":
        put(path, IMAGE)
    else:
        path.write_bytes(b"not an image")
    expected = {"size": "18x24.*18x23", "id": r"\[77\]", "colour": "one channel", "garbage": "not a readable image"}
    with pytest.raises(DataError, match=expected[fault]):
        data[0]


def test_helen_of_another_size_is_named(tmp_path: Path) -> None:
    data = made("helen", tmp_path)
    put(tmp_path / "labels/10_1/10_1_lbl04.png", LABELS[:-2])
    with pytest.raises(DataError, match="lbl04"):
        data[0]


def test_a_split_that_names_an_absent_photo(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "splits/train.txt").write_text("a\nzebra\n")
    with pytest.raises(DataError, match="zebra"):
        open_data_set(tmp_path, "train")


def test_an_empty_split(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "splits/train.txt").write_text("\n")
    with pytest.raises(DataError, match=r"train\.txt is empty"):
        open_data_set(tmp_path, "train")


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ("{}", "malformed"),
        ('{"classes": []}', "class ids"),
        ('{"classes": [{"id": 0.5, "name": "a"}]}', "class ids"),
        ('{"classes": [{"id": Infinity, "name": "a"}]}', "malformed"),
        ('{"classes": [{"id": "zero", "name": "a"}]}', "malformed"),
        ('["background"]', "malformed"),
        ('{"classes": [{"id": 0, "name": null}]}', "name of class 0 is None; expected text"),
        ('{"classes": [{"id": 0, "name": " "}]}', "name of class 0"),
        ('{"classes": [{"id": 1, "name": "a"}]}', "class ids"),
        ("nonsense", "malformed"),
    ],
)
def test_bad_classes(classes: str, expected: str, tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "classes.json").write_text(classes)
    with pytest.raises(DataError, match=rf"classes\.json.*{expected}"):
        open_data_set(tmp_path, "train")


def classes_of(root: Path, *names: str, **fields: Any) -> DataSet:
    """A folder data set with these classes, and further fields of classes.json."""
    folder(root)
    classes = [{"id": i, "name": name} | fields.get(f"of_{i}", {}) for i, name in enumerate(names)]
    found = {"classes": classes} | {k: v for k, v in fields.items() if not k.startswith("of_")}
    (root / "classes.json").write_text(json.dumps(found))
    return open_data_set(root, "train")


GLOVES = ("background", "left-glove", "right-glove")


@pytest.mark.parametrize("colour", ["#C82828", "c82828", [200, 40, 40]])
def test_colours_may_be_numbers_or_text(colour: object, tmp_path: Path) -> None:
    assert classes_of(tmp_path, *GLOVES, of_1={"colour": colour}).schema.colours[1] == (200, 40, 40)


@pytest.mark.parametrize("pairs", [[[1, 2]], [["left-glove", "right-glove"]], [["Right Glove", 1]], [["1", "2"]]])
def test_flip_pairs_may_be_ids_or_names(pairs: object, tmp_path: Path) -> None:
    assert classes_of(tmp_path, *GLOVES, flip_pairs=pairs).schema.mirrored == (0, 2, 1)
    assert classes_of(tmp_path / "none", *GLOVES, flip_pairs=None).schema.mirrored == (0, 1, 2)


@pytest.mark.parametrize("colour", ["red", [1, 2], [300, 0, 0], [0.5, 0, 0], [True, 0, 0], None, -1])
def test_a_colour_that_is_none_is_told_with_the_file(colour: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"classes\.json: a colour is .*expected three numbers.*#c82828"):
        classes_of(tmp_path, *GLOVES, of_1={"colour": colour})


@pytest.mark.parametrize(
    "pairs",
    [[[1]], [[1, 2, 2]], [[1, 1]], [[-1, 2]], [[1, 9]], [["left", "right"]], [1, 2], [[1, 2], [2, 1]], [[True, 2]]],
)
def test_a_flip_pair_that_is_none_is_told_with_the_file(pairs: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"classes\.json: a flip pair is .*by id or name"):
        classes_of(tmp_path, *GLOVES, flip_pairs=pairs)


@pytest.mark.parametrize("twin", ["left-glove", "Left_Glove", " left glove "])
def test_two_classes_of_one_name_are_refused(twin: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"classes\.json: the classes 1 and 2 have one name"):
        classes_of(tmp_path, "background", "left-glove", twin)


def test_the_background_is_class_0(tmp_path: Path) -> None:
    assert classes_of(tmp_path, "nothing", "glove", "hat").schema.names[0] == "background"
    with pytest.raises(DataError, match=r"classes\.json: class 2 is the background"):
        classes_of(tmp_path / "other", "glove", "hat", "Background")


def test_too_many_classes_for_a_label_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"classes\.json: there are 256 classes"):
        classes_of(tmp_path, *(f"c{i}" for i in range(256)))


def test_classes_of_ones_own_make_a_schema(tmp_path: Path) -> None:
    folder(tmp_path)
    classes = [{"id": i, "name": n, "colour": [9, 8, i]} for i, n in enumerate(("none", "left-ear", "right-ear"))]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": classes, "flip_pairs": [[1, 2]]}))
    schema = open_data_set(tmp_path, "train").schema
    assert schema.mirrored == (0, 2, 1)
    assert schema.colours[2] == (9, 8, 2)


def test_a_folder_may_have_objects_that_are_no_class(tmp_path: Path) -> None:
    folder(tmp_path)
    data = open_data_set(tmp_path, "train")
    name, before = data.names[0], data[0]
    shape = before.labels.shape
    assert before.objects is None
    (tmp_path / "objects").mkdir()
    drawn = np.zeros(shape, np.uint8)
    drawn[2:5, 3:7] = 41
    Image.fromarray(drawn).save(tmp_path / f"objects/{name}.png")
    found = data[0].objects
    assert found is not None
    assert np.array_equal(found, drawn)
    Image.fromarray(drawn[:-1]).save(tmp_path / f"objects/{name}.png")
    with pytest.raises(DataError, match=f"{name}.*its objects are .* must agree"):
        data[0]
    (tmp_path / f"objects/{name}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="not a readable image"):
        data[0]


def test_drawn_people_have_parts_where_they_are_drawn() -> None:
    image, labels = draw_person(np.random.default_rng(4), 384, 256)
    again, _ = draw_person(np.random.default_rng(4), 384, 256)
    assert np.array_equal(image, again)
    assert image.shape == (384, 256, 3)
    assert labels.shape == (384, 256)
    present = set(np.unique(labels))
    assert {0, 2, 13, 14, 15, 18, 19} <= present <= set(range(20))
    face_row = np.nonzero(labels == 13)[0].mean()
    shoe_row = np.nonzero(labels >= 18)[0].mean()
    assert face_row < 384 / 3 < 384 * 2 / 3 < shoe_row
    # The person faces us: its left arm is on our right.
    assert np.nonzero(labels == 14)[1].mean() > np.nonzero(labels == 15)[1].mean()
    edges = cv2.Canny(image, 40, 120)
    outline = cv2.morphologyEx((labels > 0).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8))
    assert edges[outline > 0].mean() > 5 * edges[(outline == 0) & (labels == 0)].mean()


def test_a_photo_turned_by_exif_and_labels_that_are_not(tmp_path: Path) -> None:
    photo, exif = Image.new("RGB", (40, 20)), Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    photo.save(tmp_path / "a.jpg", exif=exif)
    Image.new("L", (40, 20), 5).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"the image is 20x40, its labels are 40x20.*EXIF orientation"):
        read_sample("a", tmp_path / "a.jpg", tmp_path / "a.png", LIP)
    Image.new("L", (20, 40), 5).save(tmp_path / "a.png")
    assert read_sample("a", tmp_path / "a.jpg", tmp_path / "a.png", LIP).image.shape == (40, 20, 3)
    Image.new("L", (20, 40), 255).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"'a'.*no pixel that is not ignored"):
        read_sample("a", tmp_path / "a.jpg", tmp_path / "a.png", LIP)


def test_a_jpeg_that_was_cut_off_is_named(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 48, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.jpg"), image)
    Image.new("L", (48, 64), 5).save(tmp_path / "a.png")
    assert read_sample("a", tmp_path / "a.jpg", tmp_path / "a.png", LIP).image.shape == (64, 48, 3)
    code = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(code[: len(code) // 2])
    with pytest.raises(DataError, match=r"a\.jpg is a JPEG without an end"):
        read_sample("a", tmp_path / "a.jpg", tmp_path / "a.png", LIP)
