"""Versions of each project's weights: added, promoted, rejected, rolled back. A half-written one is never served.

``DIR/PROJECT/VERSION/`` holds model.safetensors, info.json and status.json. It is written under another name and
renamed, so what has its name is whole. ``DIR/PROJECT/current.json`` has, for each schema, the versions that were served
one after the other, the last one now; without it, the base weights are served. Every change of it is a new file: who
serves looks at its stat only.

A version belongs to the schema of the weights that it was trained from. What a project has learnt for one schema waits
unchanged while its label config asks for another.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ihp_backend.files import draft_folder, is_file_name, locked, sync, write_whole
from ihp_backend.learning.records import now
from ihp_backend.learning.version import (
    BASE,
    FIRST_SCHEMA,
    INFO,
    MODEL,
    STATUS,
    RegistryError,
    Status,
    Version,
    schema_in,
)
from ihp_backend.stored_records import DamagedRecordError, is_text, read_object, read_record

__all__ = ["BASE", "INFO", "MODEL", "STATUS", "Registry", "RegistryError", "Stamp", "Status", "Version"]

logger = logging.getLogger(__name__)

CURRENT = "current.json"
_NUMBER = re.compile(r".+\+p[^.]*\.(\d+)")
_REMEMBERED = 50
Stamp = tuple[int, int, int]


class Registry:
    """All projects' versions below one folder. Processes may share it; every change holds the project's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def projects(self) -> list[str]:
        """Returns the projects that have versions, such as ``"1.1795392500"``."""
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if is_file_name(path.name) and path.is_dir())

    def versions(self, project: str) -> list[Version]:
        """Returns a project's versions, the oldest first."""
        found = []
        for path in self._of(project).glob(f"*/{STATUS}"):
            if path.parent.name.startswith("."):
                continue
            try:
                status = read_record(Status, path)
            except (OSError, DamagedRecordError) as error:
                logger.warning("version %s of project %s is left out: %s: %s", path.parent.name, project, path, error)
                continue
            found.append(Version(path.parent.name, path.parent, status))
        return sorted(found, key=lambda version: (_number(version.name), version.name))

    def get(self, project: str, name: str) -> Version:
        """Returns a version by name.

        Raises:
            RegistryError: If there is none; the message lists those there are.
        """
        versions = self.versions(project)
        for version in versions:
            if version.name == name:
                return version
        there = ", ".join(version.name for version in versions) or "none"
        raise RegistryError(f"project {project} has no version {name!r}; there are: {there}")

    def schemas(self, project: str) -> list[str]:
        """Returns the schemas that a project has versions of, that of the oldest first."""
        return list(dict.fromkeys(version.schema for version in self.versions(project)))

    def stamp(self, project: str) -> Stamp | None:
        """Changes whenever another version becomes current; ``None`` if none ever was. Costs one stat.

        Raises:
            OSError: If the folder cannot be read.
        """
        try:
            found = os.stat(self._of(project) / CURRENT)
        except (FileNotFoundError, ValueError):
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def current(self, project: str, schema: str | None = None) -> str:
        """Returns the name of the version of a schema to serve, or ``base``.

        Args:
            project: The project.
            schema: Name of a schema; may be left out if the project has versions of one only.

        Raises:
            RegistryError: If it is left out, and there are several.
            OSError: If the folder cannot be read.
        """
        served = self._served(project).get(self._one_schema(project, schema), [])
        return served[-1] if served else BASE

    def candidates(self, project: str, schema: str | None = None) -> Iterator[Version]:
        """Yields the version of a schema to serve, then those served before it: the first that loads is the one.

        Ends where the base weights were served.

        Args:
            project: The project.
            schema: As for ``current``.

        Raises:
            RegistryError: If it is left out, and there are several.
            OSError: If the folder cannot be read.
        """
        seen = set()
        for name in reversed(self._served(project).get(self._one_schema(project, schema), [])):
            if name == BASE:
                return
            if name in seen:
                continue
            seen.add(name)
            try:
                yield self.get(project, name)
            except RegistryError as error:
                logger.error("%s", error)

    def check(self, version: Version) -> None:
        """Checks that a version's files are those that were written.

        Raises:
            RegistryError: If one is missing or damaged.
        """
        try:
            if (
                version.has_weights
                and _digest(version.folder / MODEL) == version.status.digest
                and (version.folder / INFO).is_file()
            ):
                return
            reason = "its files are not those that were written"
        except OSError as error:
            reason = str(error)
        raise RegistryError(f"version {version.name} in {version.folder} is damaged: {reason}")

    def next_name(self, project: str, base: str) -> str:
        """Returns a name for the next version, such as ``lip-2+p3.001``: names sort as they are made."""
        numbers = [_number(path.name) for path in self._of(project).glob("*+p*") if not path.name.startswith(".")]
        return f"{base.partition('+')[0]}+p{project.partition('.')[0]}.{max(numbers, default=0) + 1:03d}"

    def draft(self, project: str) -> AbstractContextManager[Path]:
        """Gives an empty folder to write a version into. What is left there at the end is deleted.

        What a killed trainer left behind is deleted, too: a project has one training at a time.
        """
        return draft_folder(self._of(project))

    def add(self, project: str, name: str, draft: Path, status: Status, instead_of: str | None = None) -> Version:
        """Gives a draft its name. If its state is ``promoted``, it becomes current.

        Args:
            project: The project.
            name: A name that no version has.
            draft: Folder with model.safetensors and info.json, from ``draft``.
            status: What became of it; its time and digest are filled in, and its schema, by info.json, if it is empty.
            instead_of: The version that it is better than. If another has become current, it is rejected: whoever
                rolled back or promoted has the last word.

        Raises:
            RegistryError: If the name is taken, or a file is missing.
            OSError: If it cannot be written; nothing has changed then.
        """
        folder = self._of(project) / name
        if missing := [file for file in (MODEL, INFO) if not (draft / file).is_file()]:
            raise RegistryError(f"the draft of {name} has no {' and no '.join(missing)}")
        schema = status.schema or schema_in(draft)
        status = replace(status, when=now(), digest=_digest(draft / MODEL), schema=schema)
        write_whole(draft / STATUS, _dump(asdict(status)))
        for file in (MODEL, INFO):
            sync(draft / file)
        draft.chmod(0o755)
        with self._lock(project):
            if folder.exists():
                raise RegistryError(f"project {project} has a version {name} already")
            current = self.current(project, schema)
            if status.state == "promoted" and instead_of not in (None, current):
                reason = f"{current} was made current meanwhile, instead of {instead_of}; {status.reason}"
                status = replace(status, state="rejected", reason=reason)
                write_whole(draft / STATUS, _dump(asdict(status)))
            os.rename(draft, folder)
            try:
                sync(folder.parent)
                if status.state == "promoted":
                    self._serve(project, schema, [*self._served(project).get(schema, []), name])
            except OSError:
                os.rename(folder, draft)
                raise
        logger.info("version %s of project %s is %s: %s", name, project, status.state, status.reason)
        return Version(name, folder, status)

    def promote(self, project: str, name: str, reason: str = "by hand", schema: str | None = None) -> None:
        """Makes a version current for its schema; ``base`` stands for the base weights.

        Args:
            project: The project.
            name: The version, or ``base``.
            reason: Why, for people.
            schema: For ``base``: whose. May be left out if the project has versions of one schema only.

        Raises:
            RegistryError: If there is none of that name, it is damaged, or it is of another schema.
        """
        if name == BASE:
            schema = self._one_schema(project, schema)
        else:
            version = self.get(project, name)
            if schema not in (None, version.schema):
                raise RegistryError(f"version {name} is of {version.schema}, not of {schema}")
            schema = version.schema
            if not version.has_weights:
                raise RegistryError(f"the weights of {name} are not kept any more; only its record is")
            self.check(version)
        with self._lock(project):
            if name != BASE:
                self._mark(version, "promoted", reason)
            self._serve(project, schema, [*self._served(project).get(schema, []), name])
        logger.info("project %s is promoted to %s: %s", project, name, reason)

    def rollback(self, project: str, reason: str = "by hand", schema: str | None = None) -> str:
        """Goes back to what was served before, and returns its name. Versions whose weights are gone are passed over.

        Args:
            project: The project.
            reason: Why, for people.
            schema: As for ``current``; versions of other schemas are not touched.

        Raises:
            RegistryError: If the base weights are served already, or the schema is left out and there are several.
        """
        schema = self._one_schema(project, schema)
        with self._lock(project):
            served = self._served(project).get(schema, [])
            if not served:
                raise RegistryError(f"project {project} has the base weights already: there is nothing to go back to")
            undone = served.pop()
            there = {version.name: version for version in self.versions(project)}
            while served and served[-1] != BASE and not (served[-1] in there and there[served[-1]].has_weights):
                served.pop()
            self._serve(project, schema, served)
            if undone in there:
                self._mark(there[undone], "rolled back", reason)
        now = served[-1] if served else BASE
        logger.info("project %s is rolled back from %s to %s: %s", project, undone, now, reason)
        return now

    def prune(self, project: str, keep: int) -> list[str]:
        """Deletes the weights of old versions, and returns their names. The records stay.

        Args:
            project: The project.
            keep: Of each schema's versions that were served, and of all, the last ones that are kept; at least 1.
        """
        with self._lock(project):
            versions = self.versions(project)
            kept = {name for names in self._served(project).values() for name in names[-keep:]}
            for schema in {version.schema for version in versions}:
                kept.update([version.name for version in versions if version.schema == schema][-keep:])
            old = [version for version in versions if version.name not in kept and version.has_weights]
            for version in old:
                (version.folder / MODEL).unlink(missing_ok=True)
        return [version.name for version in old]

    def _of(self, project: str) -> Path:
        if not is_file_name(project):
            raise RegistryError(f"project is {project[:100]!r}; expected Label Studio's id, such as '1.1795392500'")
        return self.folder / project

    def _lock(self, project: str) -> AbstractContextManager[None]:
        return locked(self._of(project) / ".lock")

    def _one_schema(self, project: str, schema: str | None) -> str:
        """Returns the schema that was given, or the one that the project has versions of."""
        if schema is not None:
            return schema
        there = self.schemas(project)
        if len(there) > 1:
            raise RegistryError(f"project {project} has versions of {' and '.join(there)}: say of which")
        return there[0] if there else FIRST_SCHEMA

    def _served(self, project: str) -> dict[str, list[str]]:
        """What was served one after the other, by schema."""
        path = self._of(project) / CURRENT
        try:
            served = read_object(path)["served"]
            if isinstance(served, list):  # of an older release, which had weights of one schema
                served = {(self.schemas(project) or [FIRST_SCHEMA])[0]: served}
            return {schema: [name for name in names if is_text(name)] for schema, names in served.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            logger.error("project %s gets the base weights: %s cannot be read: %s", project, path, error)
            return {}

    def _serve(self, project: str, schema: str, names: list[str]) -> None:
        served = {**self._served(project), schema: names[-_REMEMBERED:]}
        write_whole(self._of(project) / CURRENT, _dump({"served": served, "since": now()}))

    def _mark(self, version: Version, state: str, reason: str) -> None:
        status = replace(version.status, state=state, reason=reason, when=now())
        write_whole(version.folder / STATUS, _dump(asdict(status)))


def _number(name: str) -> int:
    found = _NUMBER.fullmatch(name)
    return int(found[1]) if found else 0


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1) + "\n"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
