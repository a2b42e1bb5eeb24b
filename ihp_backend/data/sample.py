"""One annotated photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.parts import IGNORE, Schema


class DataError(ValueError):
    """A data set does not hold what its layout promises."""


ENDINGS = (".jpg", ".jpeg", ".png")
"""Of image files."""


@dataclass(frozen=True)
class Sample:
    """A photo and its labels.

    Attributes:
        name: Name in the data set, without folder and ending.
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8 ids of the schema; 255 is ignored.
        unknown: Ids that whoever labelled the photo did not know; training does not ask for them there.
    """

    name: str
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    unknown: tuple[int, ...] = ()


class DataSet(Protocol):
    """What training and evaluation need of a data set: a schema, names, and a sample by its place."""

    @property
    def schema(self) -> Schema:
        """Says what the ids of the labels mean."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Names of the photos, by their place."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def read_sample(name: str, image_path: Path, label_path: Path, schema: Schema) -> Sample:
    """Reads and checks one photo with its label image.

    Raises:
        DataError: If a file is missing or unreadable, the sizes differ, or an id is not in the schema.
    """
    for path in (image_path, label_path):
        if not path.is_file():
            raise DataError(f"sample {name!r}: {path} is missing")
    code = image_path.read_bytes()
    if code[:2] == b"\xff\xd8" and b"\xff\xd9" not in code[-1024:]:  # OpenCV fills up what is missing
        raise DataError(f"sample {name!r}: {image_path} is a JPEG without an end: it was cut off")
    image = cv2.imdecode(np.frombuffer(code, np.uint8), cv2.IMREAD_COLOR_RGB) if code else None
    if image is None:
        raise DataError(f"sample {name!r}: {image_path} is not a readable image")
    try:
        with Image.open(label_path) as file:
            labels = np.array(file)
    except OSError as error:
        raise DataError(f"sample {name!r}: {label_path} is not a readable image ({error})") from error
    if labels.ndim != 2:
        raise DataError(f"sample {name!r}: {label_path} has shape {labels.shape}; expected one channel of part ids")
    if labels.shape != image.shape[:2]:
        turned = labels.shape == image.shape[1::-1]
        raise DataError(
            f"sample {name!r}: the image is {image.shape[1]}x{image.shape[0]}, "
            f"its labels are {labels.shape[1]}x{labels.shape[0]}; they must agree"
            + (", and photos are turned as their EXIF orientation says" if turned else "")
        )
    ids = np.unique(labels)
    if unknown := [int(i) for i in ids if i >= len(schema) and i != IGNORE]:
        raise DataError(
            f"sample {name!r}: {label_path} has the ids {unknown}; "
            f"schema {schema.name} has 0 to {len(schema) - 1}, and {IGNORE} for pixels to ignore"
        )
    if list(ids) == [IGNORE]:
        raise DataError(f"sample {name!r}: {label_path} has no pixel that is not ignored; leave it out of the split")
    return Sample(name, image.astype(np.uint8, copy=False), labels.astype(np.uint8))


class FileDataSet:
    """Photos and label images in files, found by a function of the name."""

    def __init__(
        self, root: Path, schema: Schema, names: Sequence[str], paths: Callable[[str], tuple[Path, Path]]
    ) -> None:
        """Takes the names and a function from a name to the paths of photo and label image.

        Raises:
            DataError: If there is no name.
        """
        if not names:
            raise DataError(f"{root}: the split names no photo")
        self.root, self.schema, self.names = root, schema, list(names)
        self._paths = paths

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Reads a sample; raises DataError if its files are missing, unreadable or do not agree."""
        name = self.names[index]
        return read_sample(name, *self._paths(name), self.schema)


def first_of(root: Path, *candidates: str) -> Path:
    """Returns the first of these paths that exists below a data set's folder.

    Raises:
        DataError: If none does; the message lists them.
    """
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    raise DataError(f"{root} lacks {' or '.join(candidates)}; see docs/datasets.md for the expected layout")


def read_names(path: Path) -> list[str]:
    """Reads a list of names, one in a line; folder, an image's ending and further columns are ignored.

    Raises:
        DataError: If the file is missing or lists nothing.
    """
    if not path.is_file():
        raise DataError(f"the list of names {path} is missing")
    files = [Path(line.split()[0]) for line in path.read_text().splitlines() if line.strip()]
    names = [file.stem if file.suffix.lower() in ENDINGS else file.name for file in files]
    if not names:
        raise DataError(f"the list of names {path} is empty")
    return names
