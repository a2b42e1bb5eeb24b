"""Helen with the masks of Smith et al. ("Exemplar-based face parsing", CVPR 2013): faces, 11 classes.

Layout: images/NAME.jpg, labels/NAME/NAME_lbl00.png to _lbl10.png (soft masks, 0-255), and the lists exemplars.txt
(train), tuning.txt (val) and testing.txt (test) with lines such as ``1 , 100032540_1``; also in a folder of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ihp_backend.data.files import ImageFolder, first_of, read_text
from ihp_backend.data.sample import DataError, Sample
from ihp_backend.parts import HELEN

LISTS = {"train": "exemplars.txt", "val": "tuning.txt", "test": "testing.txt"}


class HelenDataSet:
    """Photos of faces; the label of a pixel is the mask with the greatest value there."""

    schema = HELEN

    def __init__(self, root: Path, split: str = "train") -> None:
        """Opens the split ``train``, ``val`` or ``test``.

        Raises:
            DataError: If there is no such split, or a folder or list is missing or malformed.
        """
        if split not in LISTS:
            raise DataError(f"Helen has no split {split!r}; expected one of {', '.join(LISTS)}")
        path = first_of(root, LISTS[split])
        self.images, self.labels = ImageFolder(first_of(path.parent, "images")), first_of(path.parent, "labels")
        lines = [line for line in read_text(path).splitlines() if line.strip()]
        if bad := [line for line in lines if "," not in line]:
            raise DataError(f"{path} has the line {bad[0]!r}; expected lines such as '1 , 100032540_1'")
        self.names: Sequence[str] = [line.split(",", 1)[1].strip() for line in lines]
        if not self.names:
            raise DataError(f"{path} is empty")

    def __len__(self) -> int:
        return len(self.names)

    def photo(self, index: int) -> Path:
        """Returns the path of a photo, by its place."""
        return self.images.path(self.names[index])

    def __getitem__(self, index: int) -> Sample:
        """Reads a sample; raises DataError if a file is missing or unreadable, or the sizes differ."""
        name = self.names[index]
        paths = [self.labels / name / f"{name}_lbl{i:02d}.png" for i in range(len(HELEN))]
        image = _read(name, self.images.path(name), cv2.IMREAD_COLOR_RGB)
        masks = [_read(name, path, cv2.IMREAD_GRAYSCALE) for path in paths]
        for path, mask in zip(paths, masks, strict=True):
            if mask.shape != image.shape[:2]:
                raise DataError(f"sample {name!r}: {path} has shape {mask.shape}, the photo {image.shape[:2]}")
        return Sample(name, image, np.stack(masks).argmax(0).astype(np.uint8))


def _read(name: str, path: Path, mode: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    if not path.is_file():
        raise DataError(f"sample {name!r}: {path} is missing")
    image = cv2.imread(str(path), mode)
    if image is None:
        raise DataError(f"sample {name!r}: {path} is not a readable image")
    return image.astype(np.uint8, copy=False)
