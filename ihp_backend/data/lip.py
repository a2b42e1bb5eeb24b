"""LIP, "Look into Person" (Gong et al., CVPR 2017): one person a photo, 20 classes.

Layout: train_images/, val_images/, train_segmentations/, val_segmentations/, train_id.txt, val_id.txt; also with the
folders TrainVal_images/ and TrainVal_parsing_annotations/ around them, as the archives unpack.
"""

from __future__ import annotations

from pathlib import Path

from ihp_backend.data.sample import FileDataSet, first_of, read_names
from ihp_backend.parts import LIP


def open_lip(root: Path, split: str = "train") -> FileDataSet:
    """Opens the split ``train`` or ``val``.

    Raises:
        DataError: If a folder or list is missing.
    """
    images = first_of(root, f"{split}_images", f"TrainVal_images/{split}_images")
    labels = first_of(
        root,
        f"{split}_segmentations",
        f"TrainVal_parsing_annotations/{split}_segmentations",
        f"TrainVal_parsing_annotations/TrainVal_parsing_annotations/{split}_segmentations",
    )
    names = read_names(first_of(root, f"{split}_id.txt", f"TrainVal_images/{split}_id.txt"))
    return FileDataSet(root, LIP, names, lambda name: (images / f"{name}.jpg", labels / f"{name}.png"))
