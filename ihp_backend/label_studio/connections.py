"""What each project's Label Studio told in /setup, kept on disk so that a restart remembers it."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import RLock

from ihp_backend.again import Again
from ihp_backend.files import is_file_name, write_whole
from ihp_backend.label_studio.regions import RequestError
from ihp_backend.settings import Settings
from ihp_backend.stored_records import DamagedRecordError, read_record

logger = logging.getLogger(__name__)

_LENGTH = 10_000
MOST, MOST_UNCONFIRMED = 2_000, 50
"""Of so many projects something is remembered, and of so many that nobody has confirmed: the latest."""


@dataclass(frozen=True)
class Connection:
    """Where a Label Studio is reached, and with which token.

    Attributes:
        hostname: Its address, as this backend reaches it.
        token: An access token.
        told: Its address, as it calls itself, if that is another one: addresses of photos may begin with it.
        confirmed: It has the project, by its own word, or who told so has the password.
    """

    hostname: str
    token: str = field(default="", repr=False)
    told: str = ""
    confirmed: bool = field(default=False, compare=False)


def by_settings(settings: Settings, told: Connection | None) -> Connection | None:
    """Returns the Label Studio that the settings name, else the one that was told.

    The token of the settings goes to the address of the settings only, never to one that a request named.
    """
    if url := settings.label_studio_url:
        token = settings.label_studio_token or (told.token if told else "")
        return Connection(url, token, told.hostname if told else "")
    return told


@dataclass(frozen=True)
class _Stored:
    hostname: str
    token: str
    confirmed: bool = True  # older releases did not ask


class Connections:
    """One file a project, readable by its owner only.

    Replicas that share the folder see each other's records: the file is read at every look (tens of
    microseconds). If it cannot be written, this process still remembers, and writes it when it can. What nobody has
    confirmed is bounded by itself, and replaces nothing that somebody has.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unsaved: dict[str, Connection] = {}
        self._confirmed: set[str] = set()
        self._lock = RLock()
        self._again = Again("connections", self._save)

    def remember(self, project: str, connection: Connection) -> None:
        """Keeps the record of a project, such as ``"1.1795392500"``, in place of an older one.

        Raises:
            RequestError: If the project's name could not be a file's, or the connection is longer than any.
        """
        self._path(project)
        if len(connection.hostname) + len(connection.token) > _LENGTH:
            raise RequestError(f"hostname and access_token have more than {_LENGTH} characters")
        if not self._remember(project, connection):
            self._again.later()

    def confirm(self, project: str, connection: Connection) -> None:
        """Notes that Label Studio has the project, if the connection is still what is remembered. Raises as above."""
        if self.find(project) == connection:
            self.remember(project, replace(connection, confirmed=True))

    def find(self, project: str) -> Connection | None:
        """Returns what was remembered of a project, or ``None``.

        Raises:
            RequestError: If the project's name could not be a file's.
        """
        path = self._path(project)
        if (unsaved := self._unsaved.get(project)) is not None:
            return unsaved
        try:
            record = read_record(_Stored, path)
            return Connection(record.hostname, record.token, confirmed=record.confirmed)
        except FileNotFoundError:
            return None
        except (OSError, DamagedRecordError) as error:
            logger.warning("project %s: cannot read %s (%s): waiting for the next /setup", project, path, error)
            return None

    def _remember(self, project: str, connection: Connection) -> bool:
        """Returns whether it is written down."""
        with self._lock:
            known = self.find(project)
            if known == connection and known.confirmed >= connection.confirmed:
                return True
            if known is None or known.confirmed < connection.confirmed:
                self._make_room(confirmed=connection.confirmed)
            self._confirmed.discard(project)
            self._unsaved[project] = connection
            try:
                self._save()
                return True
            except OSError as error:
                logger.warning("project %s: cannot keep its address and token, later again: %s", project, error)
                return False

    def _save(self) -> None:
        """Writes what is not written yet; raises OSError if it cannot be."""
        failure: OSError | None = None
        with self._lock:
            for project, connection in list(self._unsaved.items()):
                stored = _Stored(connection.hostname, connection.token, connection.confirmed)
                try:
                    self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    write_whole(self._path(project), json.dumps(asdict(stored)), mode=0o600)
                    del self._unsaved[project]
                except OSError as error:  # a folder in its place holds up no other
                    failure = error
        if failure is not None:
            raise failure

    def _make_room(self, *, confirmed: bool) -> None:
        """Makes room for one more; raises RequestError if there is none."""
        unconfirmed = self._unconfirmed()
        if confirmed and len(self.projects()) - len(unconfirmed) >= MOST:
            raise RequestError(f"{MOST} projects are known already; delete those that are no more from {self.folder}")
        for project in unconfirmed[: 0 if confirmed else max(0, len(unconfirmed) - MOST_UNCONFIRMED + 1)]:
            self._unsaved.pop(project, None)
            with suppress(OSError):
                self._path(project).unlink(missing_ok=True)

    def _unconfirmed(self) -> list[str]:
        """Returns the projects that nobody has confirmed, the oldest first."""
        found = []
        for project in self.projects():
            if project in self._confirmed or not is_file_name(project):
                continue
            known = self.find(project)
            if known is not None and known.confirmed:
                self._confirmed.add(project)  # it stays so: each is read once
            elif known is not None:
                found.append(project)
        return sorted(found, key=lambda project: (project in self._unsaved, self._age(project)))

    def _age(self, project: str) -> float:
        try:
            return self._path(project).lstat().st_mtime
        except OSError:
            return 0.0

    def find_number(self, number: int) -> Connection | None:
        """Returns what was remembered last of the project of that number, whatever the rest of its name."""
        name = self.name_of(number)
        return None if name is None else self.find(name)

    def name_of(self, number: int) -> str | None:
        """Returns the id of the project of that number, such as ``"1.1795392500"``, that was remembered last.

        One that was confirmed comes before all others.
        """
        ages: dict[str, tuple[bool, bool, float]] = {}
        for name in self.projects():
            if name.partition(".")[0] == str(number) and is_file_name(name) and (known := self.find(name)) is not None:
                ages[name] = known.confirmed, name in self._unsaved, self._age(name)
        return max(ages, key=ages.__getitem__, default=None)

    def projects(self) -> list[str]:
        """Returns the ids of all projects that something is remembered of."""
        try:
            found = {path.name.removesuffix(".json") for path in self.folder.glob("[!.]*.json")}
        except OSError:
            found = set()
        return sorted(found | self._unsaved.keys())

    def _path(self, project: str) -> Path:
        if not is_file_name(project):
            raise RequestError(
                f"project is {project[:100]!r}; expected Label Studio's id, such as '1.1795392500': "
                "letters, digits, dots, hyphens and underscores"
            )
        return self.folder / f"{project}.json"
