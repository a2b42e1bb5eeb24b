"""What each project's Label Studio told in /setup, kept on disk so that a restart remembers it."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ihp_backend.again import Again
from ihp_backend.files import is_file_name, write_whole
from ihp_backend.label_studio.regions import RequestError
from ihp_backend.settings import Settings
from ihp_backend.stored_records import DamagedRecordError, read_record

logger = logging.getLogger(__name__)

_LENGTH = 10_000
MOST = 2_000
"""Of so many projects something is remembered."""


@dataclass(frozen=True)
class Connection:
    """Where a Label Studio is reached, and with which token.

    Attributes:
        hostname: Its address, as this backend reaches it.
        token: An access token.
        told: Its address, as it calls itself, if that is another one: addresses of photos may begin with it.
    """

    hostname: str
    token: str = field(default="", repr=False)
    told: str = ""


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


class Connections:
    """One file a project, readable by its owner only.

    Replicas that share the folder see each other's records: the file is read at every look (tens of
    microseconds). If it cannot be written, this process still remembers, and writes it when it can.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unsaved: dict[str, Connection] = {}
        self._again = Again("connections", self._save)

    def remember(self, project: str, connection: Connection) -> None:
        """Keeps the record of a project, such as ``"1.1795392500"``, in place of an older one.

        Raises:
            RequestError: If the project's name could not be a file's, or the connection is longer than any.
        """
        path = self._path(project)
        if len(connection.hostname) + len(connection.token) > _LENGTH:
            raise RequestError(f"hostname and access_token have more than {_LENGTH} characters")
        if self.find(project) == connection:
            return
        if not path.exists() and len(self.projects()) >= MOST:
            raise RequestError(f"{MOST} projects are known already; delete those that are no more from {self.folder}")
        self._unsaved[project] = connection
        try:
            self._save()
        except OSError as error:
            logger.warning("project %s: cannot keep its address and token, later again: %s: %s", project, path, error)
            self._again.later()

    def find(self, project: str) -> Connection | None:
        """Returns what was remembered of a project, or ``None``.

        Raises:
            RequestError: If the project's name could not be a file's.
        """
        path = self._path(project)
        if project in self._unsaved:
            return self._unsaved[project]
        try:
            record = read_record(_Stored, path)
            return Connection(record.hostname, record.token)
        except FileNotFoundError:
            return None
        except (OSError, DamagedRecordError) as error:
            logger.warning("project %s: cannot read %s (%s): waiting for the next /setup", project, path, error)
            return None

    def _save(self) -> None:
        """Writes what is not written yet; raises OSError if it cannot be."""
        for project, connection in list(self._unsaved.items()):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._path(project), json.dumps(asdict(connection)), mode=0o600)
            if self._unsaved.get(project) == connection:
                del self._unsaved[project]

    def find_number(self, number: int) -> Connection | None:
        """Returns what was remembered last of the project of that number, whatever the rest of its name."""
        name = self.name_of(number)
        return None if name is None else self.find(name)

    def name_of(self, number: int) -> str | None:
        """Returns the id of the project of that number, such as ``"1.1795392500"``, that was remembered last."""
        try:
            found = sorted(self.folder.glob(f"{number}.*.json"), key=lambda path: path.stat().st_mtime)
        except OSError:
            found = []
        names = [*self._unsaved, *(path.name.removesuffix(".json") for path in reversed(found))]
        return next((name for name in names if name.partition(".")[0] == str(number)), None)

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
