"""The folder that a project is exported to: what it holds already, names of photos, and complete files only.

``.export/`` has a record of each task, written after its files: a stopped export goes on where it was, and what has
changed in Label Studio since is written anew. Whoever has no use for that may delete it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ihp_backend.data.sample import ENDINGS
from ihp_backend.files import locked, write_whole
from ihp_backend.label_studio.export_classes import ExportError
from ihp_backend.label_studio.image_address import stored_in
from ihp_backend.stored_records import DamagedRecordError, read_object, read_record

_UPLOAD = re.compile(r"/upload/(?:.*/)?[0-9a-f]{8}-([^/]+)$")
"""Label Studio puts eight letters before the name of an uploaded file."""
_NOT_IN_NAMES = re.compile(r"""[\x00-\x1f\x7f/\\:*?"'<>|,;]+""")
_LONGEST_NAME = 150


@dataclass(frozen=True)
class ExportedTask:
    """A task that is exported.

    Attributes:
        task: Its number.
        state: A text that changes when what is exported changes; empty while the files are being written.
        name: The photo's name, without ending.
        split: Its split.
        ending: Of the photo's file.
        width: Of the photo, in pixels.
        height: Of the photo, in pixels.
        files: Paths below the folder.
        row: What the report tells of it.
    """

    task: int
    state: str
    name: str
    split: str
    ending: str
    width: int
    height: int
    files: tuple[str, ...]
    row: dict[str, str]


class ExportFolder:
    """A data set that grows task by task. One process at a time, see ``opened``.

    Args:
        root: The folder.
        records: What is there already, by task.
    """

    def __init__(self, root: Path, records: Mapping[int, ExportedTask]) -> None:
        self.root = root
        self.records = dict(records)
        self._names = {_folded(record.name): task for task, record in self.records.items()}

    @classmethod
    @contextmanager
    def opened(cls, root: Path, identity: Mapping[str, str]) -> Iterator[ExportFolder]:
        """Opens a folder that is empty, or has an export of the same project in the same layout.

        Args:
            root: The folder; made if missing.
            identity: What may not differ from one run to the next.

        Raises:
            ExportError: If something else is in it.
            LockedError: If another export runs there.
            OSError: If it cannot be written to.
        """
        state = root / ".export"
        if root.is_dir() and any(root.iterdir()) and not state.is_dir():
            raise ExportError(f"{root} has files that no export has written; give an empty folder, or a new one")
        with locked(state / "lock", wait=False):
            about = state / "project.json"
            if about.exists():
                known = read_object(about)
                if other := [k for k in identity if known.get(k) != identity[k]]:
                    there = ", ".join(f"{k} {known.get(k)}, not {identity[k]}" for k in other)
                    raise ExportError(f"{root} has another export ({there}); give another folder")
            else:
                write_whole(about, json.dumps(dict(identity), indent=1) + "\n")
            yield cls(root, {record.task: record for record in _records(state / "tasks")})

    @property
    def sides(self) -> Path:
        """The file that says which task is in which split."""
        return self.root / ".export" / "sides.json"

    def is_whole(self, task: int, state: str) -> bool:
        """Whether a task is there in this state, with all its files."""
        record = self.records.get(task)
        return record is not None and record.state == state and all((self.root / f).is_file() for f in record.files)

    def name_for(self, task: int, wanted: str) -> str:
        """Returns a unique name for a task's photo. The first task with a name gets it unchanged.

        On some systems names that differ in the case of letters, or in how accents are written, are one name.
        """
        if (record := self.records.get(task)) is not None:
            return record.name
        number, name = 1, wanted
        while self._names.setdefault(_folded(name), task) != task:
            name = f"{wanted}-task-{task}" + (f"-{number}" if number > 1 else "")
            number += 1
        return name

    def put(self, record: ExportedTask, files: Mapping[str, bytes], annotations: Sequence[Mapping[str, Any]]) -> None:
        """Writes a task's files, and then its record. Each file is whole or not there.

        Raises:
            OSError: If one cannot be written, as on a full disk; another export writes the task anew.
        """
        before = self.records.get(record.task)
        known = dict.fromkeys([*(before.files if before else ()), *files])
        self._record(replace(record, state="", files=tuple(known)))  # whatever happens now, its files are known
        for path, content in files.items():
            write_whole(self.root / path, content)
        if annotations:
            write_whole(self._state("masks", record.task), json.dumps(list(annotations)))
        self._delete(known.keys() - files.keys())
        self._record(record)

    def annotations(self, task: int) -> list[dict[str, Any]]:
        """Returns the annotations that ``put`` was given for a task."""
        try:
            found: list[dict[str, Any]] = json.loads(self._state("masks", task).read_text())
            return found
        except FileNotFoundError:
            return []

    def remove(self, task: int) -> None:
        """Removes the files of a task that is no longer annotated or can no longer be exported."""
        if (record := self.records.pop(task, None)) is not None:
            self._delete(record.files)
            for kind in ("masks", "tasks"):
                self._state(kind, task).unlink(missing_ok=True)

    def finish(self, lists: Mapping[str, bytes]) -> None:
        """Writes each split's list of photos, removes lists of splits that are gone; raises OSError on failure."""
        path = self.root / ".export" / "lists.json"
        with suppress(OSError, DamagedRecordError):
            self._delete(set(read_object(path)) - set(lists))
        for name, content in lists.items():
            write_whole(self.root / name, content)
        write_whole(path, json.dumps(dict.fromkeys(lists, "")))

    def _state(self, kind: str, task: int) -> Path:
        return self.root / ".export" / kind / f"{task}.json"

    def _record(self, record: ExportedTask) -> None:
        write_whole(self._state("tasks", record.task), json.dumps(asdict(record)))
        self.records[record.task] = record

    def _delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            (self.root / path).unlink(missing_ok=True)
            with suppress(OSError):
                (self.root / path).parent.rmdir()  # if it is empty, as Helen's folders of a photo are


def photo_name(url: str, task: int) -> str:
    """Returns a photo's name by its address, without ending, as it was before it was uploaded.

    Args:
        url: As the task's data has it, or as it is asked for.
        task: Names a photo whose address has no name.
    """
    url = stored_in(url) or url
    if url[:5].lower() == "data:":
        return f"task-{task}"
    try:
        parts = urlsplit(url)
        path = parse_qs(parts.query).get("d", [""])[-1] or unquote(parts.path)
    except ValueError:
        path = url
    uploaded = _UPLOAD.search(path)
    file = uploaded[1] if uploaded else path.replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem, dot, ending = file.rpartition(".")
    return file_name(stem if dot and len(ending) <= 5 else file) or f"task-{task}"


def file_name(text: str) -> str:
    """Returns a text as an image's name, without ending; ``_`` stands for what file names or lists forbid."""
    text = text.encode("utf-8", "replace").decode()
    name = _NOT_IN_NAMES.sub("_", unicodedata.normalize("NFC", text)).strip(" .")[:_LONGEST_NAME]
    while len(name.encode()) > _LONGEST_NAME:
        name = name[:-1]
    for ending in ENDINGS:  # a list of names would take it for the image's
        if name.lower().endswith(ending):
            name = name[: -len(ending)] + "_" + ending[1:]
    return name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _records(folder: Path) -> Iterator[ExportedTask]:
    """Reads the records there are. One that is damaged is passed over: its task is exported again."""
    for path in sorted(folder.glob("[!.]*.json")):
        with suppress(OSError, DamagedRecordError):
            yield read_record(ExportedTask, path)
