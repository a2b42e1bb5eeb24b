"""One annotated photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.data.label_image import read_label_image
from ihp_backend.parts import Schema


class DataError(ValueError):
    """A data set does not hold what its layout promises."""


class AbsentError(DataError):
    """A file or folder that a layout has is not there at all: maybe the whole split is not."""


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
        alpha: (H, W) uint8 opacity of the people, where it is known: training may change the background.
        people: (H, W) uint8 person of each pixel, 1, 2 ... and 0 for nobody, where people are told apart.
        objects: (H, W) uint8 things that may be no class of the schema, such as bags: 1, 2 ..., and 0 for none. They
            teach the open-class channels.
    """

    name: str
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    unknown: tuple[int, ...] = ()
    alpha: NDArray[np.uint8] | None = None
    people: NDArray[np.uint8] | None = None
    objects: NDArray[np.uint8] | None = None


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


class PhotoFiles(DataSet, Protocol):
    """A data set whose photos are files."""

    def photo(self, index: int) -> Path:
        """Returns the path of a photo, by its place."""
        ...


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
    try:
        image = cv2.imdecode(np.frombuffer(code, np.uint8), cv2.IMREAD_COLOR_RGB) if code else None
    except cv2.error:  # too large
        image = None
    if image is None:
        raise DataError(f"sample {name!r}: {image_path} is not a readable image")
    try:
        labels = read_label_image(label_path, schema)
    except ValueError as error:
        raise DataError(f"sample {name!r}: {label_path} {error}") from error
    if labels.shape != image.shape[:2]:
        turned = labels.shape == image.shape[1::-1]
        raise DataError(
            f"sample {name!r}: the image is {image.shape[1]}x{image.shape[0]}, "
            f"its labels are {labels.shape[1]}x{labels.shape[0]}; they must agree"
            + (", and photos are turned as their EXIF orientation says" if turned else "")
        )
    return Sample(name, image.astype(np.uint8, copy=False), labels)


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

    def photo(self, index: int) -> Path:
        """Returns the path of a photo, by its place."""
        return self._paths(self.names[index])[0]

    def __getitem__(self, index: int) -> Sample:
        """Reads a sample; raises DataError if its files are missing, unreadable or do not agree."""
        name = self.names[index]
        return read_sample(name, *self._paths(name), self.schema)


def reduced(sample: Sample, longest: int) -> Sample:
    """Returns a sample whose longer side has so many pixels at most; what is known of its pixels goes along."""
    height, width = sample.labels.shape
    scale = longest / max(height, width)
    if scale >= 1:
        return sample
    size = (max(1, round(width * scale)), max(1, round(height * scale)))

    def resized(array: NDArray[np.uint8], how: int) -> NDArray[np.uint8]:
        return cv2.resize(array, size, interpolation=how).astype(np.uint8, copy=False)

    return replace(
        sample,
        image=resized(sample.image, cv2.INTER_AREA),
        labels=resized(sample.labels, cv2.INTER_NEAREST),
        alpha=None if sample.alpha is None else resized(sample.alpha, cv2.INTER_AREA),
        people=None if sample.people is None else resized(sample.people, cv2.INTER_NEAREST),
        objects=None if sample.objects is None else resized(sample.objects, cv2.INTER_NEAREST),
    )
