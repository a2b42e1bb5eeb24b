"""LIP, "Look into Person" (Gong et al., CVPR 2017): one person a photo, 20 classes.

Layout: train_images/, val_images/, train_segmentations/, val_segmentations/, train_id.txt, val_id.txt; also with the
folders TrainVal_images/ and TrainVal_parsing_annotations/ around them, once or twice, as the archives unpack.
"""

from __future__ import annotations

from pathlib import Path

from ihp_backend.data.files import ImageFolder, first_of, read_names
from ihp_backend.data.sample import FileDataSet
from ihp_backend.parts import LIP


def open_lip(root: Path, split: str = "train") -> FileDataSet:
    """Opens the split ``train`` or ``val``.

    Raises:
        DataError: If a folder or list is missing.
    """
    images = ImageFolder(first_of(root, f"{split}_images"))
    labels = ImageFolder(first_of(root, f"{split}_segmentations"))
    names = read_names(first_of(root, f"{split}_id.txt"), images.__contains__)
    return FileDataSet(root, LIP, names, lambda name: (images.path(name), labels.path(name, ".png")))
