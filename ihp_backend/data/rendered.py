"""Rendered people: RGB with opacity, exact label images of two label sets, and who is who."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.data.sample import DataError, Sample
from ihp_backend.parts import CIHP, IGNORE, PASCAL_PERSON_PART, Schema

_TORSO_SKIN = 20
"""In label images with the ids of LIP, which has no such class; CIHP's id is 10."""
_GREY = 118


class RenderedPeople:
    """``images/NAME.webp`` (RGBA), ``lip/NAME.png`` and ``ppp/NAME.png`` (ids), ``people/NAME.png`` (who is who).

    Names that end in 7 are the split ``val``, the others ``train``.
    """

    def __init__(self, root: Path, split: str, schema: Schema) -> None:
        """Opens a split with the classes of LIP, CIHP or PASCAL-Person-Part.

        Raises:
            DataError: If there are no images of it.
        """
        if split not in ("train", "val"):
            raise DataError(f"rendered people have the splits train and val; got {split!r}")
        self.root, self.schema = root, schema
        names = sorted(path.stem for path in (root / "images").glob("*.webp"))
        self.names = [name for name in names if name.endswith("7") == (split == "val")]
        if not self.names:
            raise DataError(f"{root / 'images'} has no .webp file of the split {split}")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Reads a sample; what is behind the people is grey.

        Raises:
            DataError: If a file is missing or unreadable, or their sizes differ.
        """
        name = self.names[index]
        is_ppp = self.schema is PASCAL_PERSON_PART
        image = self._read("images", f"{name}.webp", "RGBA")
        labels = self._read("ppp" if is_ppp else "lip", f"{name}.png")
        people = self._read("people", f"{name}.png")
        if not image.shape[:2] == labels.shape == people.shape:
            raise DataError(
                f"sample {name!r}: image, labels and people have {image.shape}, {labels.shape}, {people.shape}"
            )
        if not is_ppp:
            labels = np.where(labels == _TORSO_SKIN, 10 if self.schema is CIHP else IGNORE, labels).astype(np.uint8)
        alpha = np.ascontiguousarray(image[..., 3])
        opacity = alpha[..., None].astype(np.float32) / np.float32(255)
        seen = (image[..., :3] * opacity + _GREY * (1 - opacity)).astype(np.uint8)
        return Sample(name, seen, labels, alpha=alpha, people=people)

    def _read(self, folder: str, file: str, mode: str | None = None) -> NDArray[np.uint8]:
        path = self.root / folder / file
        try:
            with Image.open(path) as image:
                return np.array(image.convert(mode) if mode else image).astype(np.uint8)
        except OSError as error:
            raise DataError(f"{path} is missing or not a readable image ({error})") from error
