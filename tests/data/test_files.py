"""Data sets as archives unpack and as other systems write them."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from layouts import IMAGE, LABELS, MAKERS, folder, put

from ihp_backend.data.catalogue import LAYOUTS, open_data_set
from ihp_backend.data.files import ImageFolder, read_names
from ihp_backend.data.sample import DataError

NAME = "photo-é"


def one_photo(root: Path, names: bytes, stem: str = NAME) -> list[str]:
    """Opens a folder data set of one photo whose split is these bytes, reads it, and returns the names."""
    shutil.rmtree(root, ignore_errors=True)
    folder(root)
    for kind in ("images", "labels"):
        put(root / f"{kind}/{stem}.png", IMAGE if kind == "images" else LABELS)
    (root / "splits/train.txt").write_bytes(names)
    data = open_data_set(root, "train")
    for place in range(len(data)):
        assert data[place].labels.max() == 5
    return list(data.names)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
def test_lists_of_any_editor_are_read(encoding: str, end: str, tmp_path: Path) -> None:
    assert one_photo(tmp_path, f"{NAME}{end}".encode(encoding)) == [NAME]


@pytest.mark.parametrize(
    "line",
    [
        f"{NAME}.png",
        f"{NAME}.PNG",
        f"images\\{NAME}.png",
        f"C:\\data\\images\\{NAME}",
        f"/data/images/{NAME}.jpg /data/labels/{NAME}.png",
        f"images\\{NAME}.jpg\tlabels\\{NAME}.png",
        f"{NAME} 3",
        f"{NAME},train",
        f'"{NAME}.png"',
        f"'{NAME}';1",
        f"  {NAME}  ",
        f"\n\n{NAME}.jpeg\n\n",
    ],
)
def test_lines_of_any_make_name_the_photo(line: str, tmp_path: Path) -> None:
    (name,) = one_photo(tmp_path, line.encode())
    assert name == NAME


@pytest.mark.parametrize(
    "line", ["my photo 2", "my photo 2.png", "a\\my photo 2.png", "my photo 2.png 7", "my photo 2\t7"]
)
def test_names_may_have_blanks(line: str, tmp_path: Path) -> None:
    assert one_photo(tmp_path, line.encode(), "my photo 2") == ["my photo 2"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("listed", ["NFC", "NFD"])
def test_accents_may_be_characters_of_their_own(form: str, listed: str, tmp_path: Path) -> None:
    """macOS writes them so in names of files, and other systems in lists."""
    one_photo(tmp_path, unicodedata.normalize(listed, NAME).encode(), unicodedata.normalize(form, NAME))  # type: ignore[arg-type]


def test_a_list_in_another_encoding_is_told_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.txt is neither UTF-8 nor UTF-16.*save it as UTF-8"):
        one_photo(tmp_path, NAME.encode("cp1252"))


def test_classes_json_with_a_byte_order_mark(tmp_path: Path) -> None:
    folder(tmp_path)
    path = tmp_path / "classes.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert len(open_data_set(tmp_path, "train")) == 2


def test_the_case_of_letters_is_another_systems_matter(tmp_path: Path) -> None:
    put(tmp_path / "A.PNG", IMAGE)
    put(tmp_path / "b.png", IMAGE)
    put(tmp_path / "B.png", IMAGE)
    put(tmp_path / "._c.png", IMAGE)  # macOS' shadow of a file
    images = ImageFolder(tmp_path)
    assert images.path("a").name == "A.PNG"
    assert (images.path("b").name, images.path("B").name) == ("b.png", "B.png")
    assert sorted(images.names) == ["A", "B", "b"]
    assert "c" not in images
    assert images.path("c", ".png") == tmp_path / "c.png"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_data_set_in_the_folders_that_its_archives_unpack_into(layout: str, tmp_path: Path) -> None:
    MAKERS[layout](tmp_path / "archive/archive")
    shadow = tmp_path / "__MACOSX/archive"
    MAKERS[layout](shadow)
    for path in shadow.rglob("*.*"):
        path.write_bytes(b"not what it seems")
    assert len(open_data_set(tmp_path, "train", layout)) == 2
    assert open_data_set(tmp_path, "train", layout)[1].labels.max() == 5


def test_a_folder_in_a_folder_of_its_own_name(tmp_path: Path) -> None:
    MAKERS["lip"](tmp_path / "a/a/a")
    images = next(tmp_path.rglob("train_images"))
    images.rename(tmp_path / "photos")
    images.mkdir()
    (tmp_path / "photos").rename(images / images.name)
    assert len(open_data_set(tmp_path, "train", "lip")) == 2


def test_what_lies_beside_a_photo_may_be_spelt_as_the_photo(tmp_path: Path) -> None:
    folder(tmp_path)
    (photo,) = [p for p in (tmp_path / "images").iterdir() if p.stem == open_data_set(tmp_path, "train").names[0]]
    label = next((tmp_path / "labels").glob(f"{photo.stem}.*"))
    photo.rename(photo.with_stem("\u00e9"))
    label.rename(label.with_stem("e\u0301"))
    (tmp_path / "splits/train.txt").write_text("e\u0301\n", encoding="utf-8")
    put(tmp_path / "people/\u00c9.PNG", np.full((5, 5), 200, np.uint8))
    sample = open_data_set(tmp_path, "train")[0]
    assert sample.alpha is not None
    assert (sample.alpha == 200).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_endings_in_capitals(layout: str, tmp_path: Path) -> None:
    MAKERS[layout](tmp_path)
    for path in [*tmp_path.rglob("*.jpg"), *tmp_path.rglob("images/*.png")]:
        path.rename(path.with_suffix(path.suffix.upper()))
    assert open_data_set(tmp_path, "train", layout)[0].image.shape == (24, 18, 3)


def test_lip_with_its_folders_doubled(tmp_path: Path) -> None:
    put(tmp_path / "TrainVal_images/TrainVal_images/val_images/9_1.JPG", IMAGE)
    put(tmp_path / "TrainVal_parsing_annotations/TrainVal_parsing_annotations/val_segmentations/9_1.png", LABELS)
    (tmp_path / "TrainVal_images/val_id.txt").write_text("9_1\n")
    assert open_data_set(tmp_path, "val", "lip")[0].name == "9_1"


def test_cihp_with_its_folder_doubled(tmp_path: Path) -> None:
    base = tmp_path / "instance-level_human_parsing/instance-level_human_parsing/Validation"
    put(base / "Images/0000009.jpg", IMAGE)
    put(base / "Category_ids/0000009.png", LABELS)
    (base / "val_id.txt").write_text("0000009\n")
    assert open_data_set(tmp_path, "val", "cihp")[0].name == "0000009"


def test_pascal_beside_voc_whose_lists_are_of_other_tasks(tmp_path: Path) -> None:
    for name in ("2008_000003", "2008_000008"):
        put(tmp_path / f"VOCdevkit/VOC2010/JPEGImages/{name}.jpg", IMAGE)
    put(tmp_path / "pascal_person_part/pascal_person_part_gt/2008_000003.png", LABELS)
    lists = tmp_path / "pascal_person_part/pascal_person_part_trainval_list"
    lists.mkdir()
    (lists / "train_id.txt").write_text("2008_000003\n")
    others = tmp_path / "VOCdevkit/VOC2010/ImageSets"
    others.mkdir()
    (others / "train.txt").write_text("2008_000008\n")
    data = open_data_set(tmp_path, "train", "pascal-person-part")
    assert [data[0].name, len(data)] == ["2008_000003", 1]


def test_names_may_have_dots(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a.b.jpg 3\nfolder/c.d\ne.PNG\n")
    assert read_names(tmp_path / "names.txt") == ["a.b", "c.d", "e"]
