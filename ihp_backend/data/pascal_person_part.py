"""PASCAL-Person-Part (Chen et al., CVPR 2014; merged to 7 classes by Xia et al., ECCV 2016).

Layout: JPEGImages/ of VOC 2010, pascal_person_part_gt/ (or SegmentationPart/) with label images, and the lists
train.txt and test.txt (also called train_id.txt, val_id.txt or val.txt), here or in
pascal_person_part_trainval_list/.
"""

from __future__ import annotations

from pathlib import Path

from ihp_backend.data.sample import FileDataSet, first_of, read_names
from ihp_backend.parts import PASCAL_PERSON_PART

_LISTS = {"val": ("val", "test"), "test": ("test", "val")}


def open_pascal_person_part(root: Path, split: str = "train") -> FileDataSet:
    """Opens the split ``train``, or ``val`` or ``test``, which are the same photos.

    Raises:
        DataError: If a folder or list is missing.
    """
    images = first_of(root, "JPEGImages")
    labels = first_of(root, "pascal_person_part_gt", "pascal_person_part/pascal_person_part_gt", "SegmentationPart")
    lists = [
        f"{folder}{name}{ending}"
        for name in _LISTS.get(split, (split,))
        for folder in ("", "pascal_person_part_trainval_list/", "pascal_person_part/pascal_person_part_trainval_list/")
        for ending in (".txt", "_id.txt")
    ]
    names = read_names(first_of(root, *lists))
    return FileDataSet(root, PASCAL_PERSON_PART, names, lambda name: (images / f"{name}.jpg", labels / f"{name}.png"))
