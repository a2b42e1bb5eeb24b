"""CIHP, "Crowd Instance-level Human Parsing" (Gong et al., ECCV 2018): several people a photo, 20 classes.

Layout: Training/ and Validation/, each with Images/, Category_ids/ and a list train_id.txt or val_id.txt; also with
instance-level_human_parsing/ around them, once or twice, as the archive unpacks. Training reads the part ids alone;
Human_ids/, which tells the people apart, may be missing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.data.files import ImageFolder, first_of, read_names
from ihp_backend.data.sample import DataError, FileDataSet
from ihp_backend.parts import CIHP

FOLDERS = {"train": "Training", "val": "Validation"}


class CihpDataSet(FileDataSet):
    """Photos and label images of one split."""

    def __init__(self, root: Path, split: str = "train") -> None:
        """Opens the split ``train`` or ``val``.

        Raises:
            DataError: If there is no such split, or a folder or list is missing.
        """
        if split not in FOLDERS:
            raise DataError(f"CIHP has no labelled split {split!r}; expected one of {', '.join(FOLDERS)}")
        images = ImageFolder(first_of(root, f"{FOLDERS[split]}/Images"))
        self._folder = images.folder.parent
        labels = ImageFolder(first_of(self._folder, "Category_ids"))
        people = self._folder / "Human_ids"
        self._people = ImageFolder(people) if people.is_dir() else None
        path = first_of(self._folder.parent, f"{self._folder.name}/{split}_id.txt", f"{split}_id.txt")
        names = read_names(path, images.__contains__)
        super().__init__(root, CIHP, names, lambda name: (images.path(name), labels.path(name, ".png")))

    def people(self, index: int) -> NDArray[np.uint8] | None:
        """Returns the person of each pixel (H, W), 1, 2 ..., and 0 for nobody; ``None`` if that is not known.

        Raises:
            DataError: If the file is not a readable image of one channel.
        """
        if self._people is None:
            return None
        path = self._people.path(self.names[index])
        if not path.is_file():
            return None
        try:
            with Image.open(path) as file:
                found = np.array(file)
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"sample {self.names[index]!r}: {path} is not a readable image ({error})") from error
        if found.ndim != 2 or found.dtype != np.uint8:
            raise DataError(f"sample {self.names[index]!r}: {path} has shape {found.shape}; expected one channel")
        return found
