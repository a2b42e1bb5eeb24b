"""Rendered people: three label sets from one scene, opacity, and who is who."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ihp_backend.data.catalogue import open_data_set
from ihp_backend.data.sample import DataError

LIP = np.zeros((12, 10), np.uint8)
LIP[2:4, 3:5], LIP[4:6, 3:5], LIP[2:6, 7:9] = 13, 20, 5
PPP = np.where(LIP == 13, 1, np.where(LIP > 0, 2, 0)).astype(np.uint8)
PEOPLE = np.where(LIP == 0, 0, np.where(np.arange(10) < 6, 1, 2)).astype(np.uint8)


def scene(root: Path, name: str) -> None:
    rgba = np.dstack([np.full((12, 10, 3), 200, np.uint8), np.where(PEOPLE > 0, 255, 0).astype(np.uint8)])
    for folder, array in (("lip", LIP), ("ppp", PPP), ("people", PEOPLE)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(root / folder / f"{name}.png")
    (root / "images").mkdir(exist_ok=True)
    Image.fromarray(rgba).save(root / "images" / f"{name}.webp", lossless=True)


@pytest.mark.parametrize(("schema", "torso_skin"), [("lip", 255), ("cihp", 10)])
def test_torso_skin_is_a_class_of_cihp_and_unknown_to_lip(schema: str, torso_skin: int, tmp_path: Path) -> None:
    scene(tmp_path, "s1")
    sample = open_data_set(tmp_path, "train", f"rendered-{schema}")[0]
    assert np.array_equal(sample.labels, np.where(LIP == 20, torso_skin, LIP))
    assert sample.people is not None
    assert np.array_equal(sample.people, PEOPLE)
    assert sample.alpha is not None
    assert np.array_equal(sample.alpha > 0, PEOPLE > 0)
    assert (sample.image[PEOPLE > 0] == 200).all()
    assert len(np.unique(sample.image[PEOPLE == 0])) == 1


def test_parts_of_pascal_have_their_own_label_images(tmp_path: Path) -> None:
    scene(tmp_path, "s1")
    data = open_data_set(tmp_path, "train", "rendered-pascal-person-part")
    assert data.schema.name == "pascal-person-part"
    assert np.array_equal(data[0].labels, PPP)


def test_one_in_ten_is_kept_back(tmp_path: Path) -> None:
    for name in ("s06", "s07", "s08", "s17"):
        scene(tmp_path, name)
    assert list(open_data_set(tmp_path, "train", "rendered-lip").names) == ["s06", "s08"]
    assert list(open_data_set(tmp_path, "val", "rendered-lip").names) == ["s07", "s17"]
    with pytest.raises(DataError, match="train and val"):
        open_data_set(tmp_path, "test", "rendered-lip")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    scene(tmp_path, "s1")
    (tmp_path / "people/s1.png").unlink()
    with pytest.raises(DataError, match=r"people/s1\.png is missing"):
        open_data_set(tmp_path, "train", "rendered-lip")[0]
