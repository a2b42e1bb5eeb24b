"""Opens a data set of any known layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ihp_backend.data.cihp import FOLDERS, CihpDataSet
from ihp_backend.data.folder import FolderDataSet, folder_splits
from ihp_backend.data.helen import LISTS, HelenDataSet
from ihp_backend.data.lip import open_lip
from ihp_backend.data.pascal_person_part import open_pascal_person_part
from ihp_backend.data.rendered import RenderedPeople
from ihp_backend.data.sample import DataError, DataSet, PhotoFiles, Sample
from ihp_backend.parts import CIHP, LIP, PASCAL_PERSON_PART

LAYOUTS: dict[str, Callable[[Path, str], PhotoFiles]] = {
    "folder": FolderDataSet,
    "lip": open_lip,
    "cihp": CihpDataSet,
    "pascal-person-part": open_pascal_person_part,
    "helen": HelenDataSet,
}
"""Layouts of published data sets."""
SPLITS = {
    "lip": ("train", "val"),
    "cihp": tuple(FOLDERS),
    "pascal-person-part": ("train", "val"),
    "helen": tuple(LISTS),
}
RENDERED: dict[str, Callable[[Path, str], DataSet]] = {
    "rendered-lip": partial(RenderedPeople, schema=LIP),
    "rendered-cihp": partial(RenderedPeople, schema=CIHP),
    "rendered-pascal-person-part": partial(RenderedPeople, schema=PASCAL_PERSON_PART),
}


def open_data_set(root: Path, split: str, layout: str = "folder", images: Path | None = None) -> DataSet:
    """Opens a split of a data set.

    Args:
        root: Its folder.
        split: Such as ``train`` or ``val``.
        layout: A name in ``LAYOUTS`` or ``RENDERED``.
        images: Where the photos of a ``folder`` are, if not in its own ``images/``.

    Raises:
        DataError: If the layout is unknown, or the folder does not follow it.
    """
    layouts: dict[str, Callable[[Path, str], DataSet]] = {**LAYOUTS, **RENDERED}
    if layout not in layouts:
        raise DataError(f"unknown layout {layout!r}; expected one of {', '.join(layouts)}")
    if images is not None:
        if layout != "folder":
            raise DataError(f"layout {layout!r} has its photos in its own folder; --images is for the layout folder")
        return FolderDataSet(Path(root), split, images)
    return layouts[layout](Path(root), split)


def splits_of(root: Path, layout: str) -> tuple[str, ...]:
    """Returns the splits that a data set of this layout may have; those of a folder are there."""
    return folder_splits(root) if layout == "folder" else SPLITS[layout]


def first_photos(data: DataSet, count: int) -> DataSet:
    """Returns a view of a data set's first photos."""
    return some_photos(data, range(min(count, len(data))))


def spread_photos(data: DataSet, count: int) -> DataSet:
    """Returns a view of so many photos at most, spread evenly over a data set."""
    return some_photos(data, np.unique(np.linspace(0, len(data) - 1, min(count, len(data))).astype(int)).tolist())


def some_photos(data: DataSet, places: Sequence[int]) -> DataSet:
    """Returns a view of some photos of a data set, by their places."""
    return _Some(data, places)


class _Some:
    def __init__(self, data: DataSet, places: Sequence[int]) -> None:
        self.schema, self.names = data.schema, [data.names[i] for i in places]
        self._data, self._places = data, places

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        return self._data[self._places[index]]
