"""CIHP, "Crowd Instance-level Human Parsing" (Gong et al., ECCV 2018): several people a photo, 20 classes.

Layout: Training/ and Validation/, each with Images/, Category_ids/ and a list train_id.txt or val_id.txt; also with
instance-level_human_parsing/ around them, once or twice, as the archive unpacks. Only the part ids are read,
not the instances.
"""

from __future__ import annotations

from pathlib import Path

from ihp_backend.data.files import ImageFolder, first_of, read_names
from ihp_backend.data.sample import DataError, FileDataSet
from ihp_backend.parts import CIHP

_FOLDERS = {"train": "Training", "val": "Validation"}


def open_cihp(root: Path, split: str = "train") -> FileDataSet:
    """Opens the split ``train`` or ``val``.

    Raises:
        DataError: If there is no such split, or a folder or list is missing.
    """
    if split not in _FOLDERS:
        raise DataError(f"CIHP has no labelled split {split!r}; expected one of {', '.join(_FOLDERS)}")
    images = ImageFolder(first_of(root, f"{_FOLDERS[split]}/Images"))
    folder = images.folder.parent
    labels = ImageFolder(first_of(folder, "Category_ids"))
    path = first_of(folder.parent, f"{folder.name}/{split}_id.txt", f"{split}_id.txt")
    names = read_names(path, images.__contains__)
    return FileDataSet(root, CIHP, names, lambda name: (images.path(name), labels.path(name, ".png")))
