"""PASCAL-Person-Part (Chen et al., CVPR 2014; merged to 7 classes by Xia et al., ECCV 2016).

Layout: JPEGImages/ of VOC 2010, pascal_person_part_gt/ (or SegmentationPart/) with label images, and the lists
train.txt and test.txt (also called train_id.txt, val_id.txt or val.txt), here or in
pascal_person_part_trainval_list/; also in the folders that the archives unpack into, such as VOCdevkit/VOC2010/.
"""

from __future__ import annotations

from pathlib import Path

from ihp_backend.data.files import ImageFolder, first_of, read_names
from ihp_backend.data.sample import FileDataSet
from ihp_backend.parts import PASCAL_PERSON_PART

_LISTS = {"val": ("val", "test"), "test": ("test", "val")}


def open_pascal_person_part(root: Path, split: str = "train") -> FileDataSet:
    """Opens the split ``train``, or ``val`` or ``test``, which are the same photos.

    Raises:
        DataError: If a folder or list is missing.
    """
    images = ImageFolder(first_of(root, "JPEGImages"))
    labels = ImageFolder(first_of(root, "pascal_person_part_gt", "SegmentationPart"))
    lists = [
        f"{folder}{name}{ending}"
        for name in _LISTS.get(split, (split,))
        for folder in ("", "pascal_person_part_trainval_list/")
        for ending in (".txt", "_id.txt")
    ]
    names = read_names(first_of(root, *lists), images.__contains__)
    return FileDataSet(root, PASCAL_PERSON_PART, names, lambda name: (images.path(name), labels.path(name, ".png")))
