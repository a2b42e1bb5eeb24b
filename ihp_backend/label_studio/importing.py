"""A data set -> tasks of a project, each with its masks as a prediction or an annotation.

A task's data says which photo it is: name, split and a digest of the file. By these an import knows what is there
already, and makes no task twice. A task comes with its masks or not at all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np

from ihp_backend.data.catalogue import LAYOUTS, splits_of
from ihp_backend.data.cihp import CihpDataSet
from ihp_backend.data.folder import FolderDataSet
from ihp_backend.data.sample import AbsentError, DataError, PhotoFiles
from ihp_backend.label_studio.client import Client
from ihp_backend.label_studio.exporting import NAME, SPLIT
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.label_studio.persons import MOST_PEOPLE
from ihp_backend.label_studio.regions import mask_regions

DIGEST = "ihp_photo"
"""Where a task's data has the digest of its photo's file."""
MODEL = "imported"
"""What predictions that come from a data set are called."""
PHOTOS_A_REQUEST = 10
_MEGABYTES_A_REQUEST = 50
_SHOWN = 20
_KEY = re.compile(r"\$([A-Za-z_]\w*)(\[0\])?(?:\.([A-Za-z_]\w*))?")
Kind = Literal["predictions", "annotations"]


@dataclass(frozen=True)
class Item:
    """A photo of a data set.

    Attributes:
        data: The data set of its split.
        index: Its place there.
        split: Its split; an empty text if the data set has none.
        path: The photo's file.
        digest: Of that file.
    """

    data: PhotoFiles
    index: int
    split: str
    path: Path
    digest: str

    @property
    def about(self) -> dict[str, str]:
        """What a task's data says of the photo."""
        split = {SPLIT: self.split} if self.split else {}
        return {NAME: self.data.names[self.index], **split, DIGEST: self.digest}


def open_splits(root: Path, layout: str, splits: Sequence[str] = ()) -> tuple[dict[str, PhotoFiles], list[str]]:
    """Opens a data set's splits, and returns them and what is to be told.

    Args:
        root: Its folder.
        layout: A name in ``LAYOUTS``.
        splits: Those that are wanted; none: all that are there.

    Raises:
        DataError: If one that is wanted cannot be opened, or none is there.
    """
    found: dict[str, PhotoFiles] = {}
    notes = []
    for split in splits or splits_of(root, layout):
        try:
            found[split] = LAYOUTS[layout](root, split)
        except AbsentError as error:
            if splits:
                raise
            notes.append(f"no split {split}: {error}")
    if layout == "folder" and not found:
        found[""] = FolderDataSet(root)
    if not found:
        raise DataError("; ".join(notes))
    return found, notes


def items_of(splits: Mapping[str, PhotoFiles]) -> list[Item]:
    """Returns the photos of some splits; of a photo that is in several the first.

    Raises:
        DataError: If a photo cannot be read.
    """
    found: dict[Path, Item] = {}
    for split, data in splits.items():
        for index, name in enumerate(data.names):
            path = data.photo(index)
            try:
                digest = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
            except OSError as error:
                raise DataError(f"sample {name!r}: {path} cannot be read ({error.strerror or error})") from error
            found.setdefault(path, Item(data, index, split, path, digest))
    return list(found.values())


def new_items(items: Iterable[Item], tasks: Iterable[Mapping[str, Any]]) -> list[Item]:
    """Returns the photos that no task of the project is of; tasks need their data only."""
    known = {_about(task.get("data") or {}) for task in tasks}
    return [item for item in items if _about(item.about) not in known]


def check(items: Iterable[Item]) -> set[int]:
    """Reads all photos and label images, and returns the ids of the classes that occur.

    Raises:
        DataError: If some cannot be read; the message names their files, the first twenty.
    """
    occurring: set[int] = set()
    problems = []
    for item in items:
        try:
            labels = item.data[item.index].labels
            people = item.data.people(item.index) if isinstance(item.data, CihpDataSet) else None
            if people is not None and (people.shape != labels.shape or people.max() > MOST_PEOPLE):
                raise DataError(
                    f"sample {item.data.names[item.index]!r}: its people are {people.shape[1]}x{people.shape[0]} with "
                    f"numbers up to {people.max()}; expected the photo's size, and {MOST_PEOPLE} at most"
                )
            occurring.update(np.unique(labels).tolist())
        except DataError as error:
            problems.append(str(error))
    if problems:
        more = f"\n... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        shown = "\n".join(problems[:_SHOWN])
        raise DataError(f"{len(problems)} photos cannot be imported, nothing was uploaded:\n{shown}{more}")
    return occurring


class Importer:
    """Makes tasks of photos.

    Args:
        client: Label Studio.
        project: The project's number.
        config: Its label config.
        ids_of: For each label the classes that it means, by id.
        kind: What the masks become.
        photos_at: What is put before a photo's path in the data set's folder to make its address; ``None``: photos are
            uploaded.
        root: The data set's folder.

    Raises:
        DataError: If the photo's address is no key of a task's data, nor the first one of a list there.
    """

    def __init__(
        self,
        client: Client,
        project: int,
        config: LabelConfig,
        ids_of: Mapping[str, tuple[int, ...]],
        kind: Kind,
        root: Path,
        photos_at: str | None = None,
    ) -> None:
        key = _KEY.fullmatch(config.value)
        if key is None or (key[3] and not key[2]):
            raise DataError(f'<Image value="{config.value}"> is no key of a task\'s data; expected such as "$image"')
        self._key, self._is_in_list, self._key_in_list = key[1], bool(key[2]), key[3]
        self._client = client
        self._project = project
        self._config = config
        self._ids_of = ids_of
        self._kind = kind
        self._root = root
        self._photos_at = photos_at

    def address(self, item: Item) -> str:
        """Returns where a photo is that is not uploaded."""
        return f"{self._photos_at}{quote(item.path.relative_to(self._root).as_posix())}"

    def run(self, items: Sequence[Item]) -> Iterator[int]:
        """Makes the tasks, a few at a time, and yields how many those were.

        Raises:
            LabelStudioError: If Label Studio refuses them or is down. What was made so far stays; a photo that was
                uploaded without a task is not used.
            DataError: If a file has changed since it was checked.
        """
        for batch in _batches(items):
            masks = [self._regions(item) for item in batch]  # before anything is uploaded
            if self._photos_at is None:
                addresses = self._client.upload_files(self._project, [item.path for item in batch])
            else:
                addresses = [self.address(item) for item in batch]
            tasks = [self._task(*made) for made in zip(batch, addresses, masks, strict=True)]
            self._client.import_tasks(self._project, tasks)
            yield len(batch)

    def _task(self, item: Item, address: str, regions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        photo: Any = {self._key_in_list: address} if self._key_in_list else address
        task: dict[str, Any] = {"data": {self._key: [photo] if self._is_in_list else photo, **item.about}}
        if regions:
            task[self._kind] = [
                {"result": regions, **({"model_version": MODEL} if self._kind == "predictions" else {})}
            ]
        return task

    def _regions(self, item: Item) -> list[dict[str, Any]]:
        """A mask for each label, or for each label and person."""
        labels = item.data[item.index].labels
        people = item.data.people(item.index) if isinstance(item.data, CihpDataSet) else None
        regions: list[dict[str, Any]] = []
        for label, ids in self._ids_of.items():
            mask = np.isin(labels, ids)
            numbers = [0] if people is None else np.unique(people[mask]).tolist()
            for person in numbers:
                own = mask if people is None else mask & (people == person)
                if own.any():
                    regions += mask_regions(own, label, 1.0, self._config, person=person or None)
        return regions


def _about(data: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(str(data.get(key)) for key in (NAME, SPLIT, DIGEST))


def _batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    size = 0
    for item in items:
        own = item.path.stat().st_size
        if batch and (len(batch) == PHOTOS_A_REQUEST or size + own > _MEGABYTES_A_REQUEST * 1_000_000):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += own
    if batch:
        yield batch
