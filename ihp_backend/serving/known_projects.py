"""Which projects are ours: what /setup told, confirmed by their Label Studio, for anybody may have told it.

What nobody confirmed is remembered for a while: a Label Studio may be slow or down for a moment. But no event of it is
heeded, and it has no record.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock

from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.label_studio.connections import Connection, Connections, by_settings
from ihp_backend.label_studio.images import ImageError, ImageLoader
from ihp_backend.label_studio.regions import RequestError
from ihp_backend.learning.registry import Registry
from ihp_backend.learning.triggers import project_key
from ihp_backend.serving.json_body import MOST_DEPTH, measure
from ihp_backend.settings import Settings, is_web_address

logger = logging.getLogger(__name__)

_THREADS = 4
MOST_ASKED = 100
_MOST_PROJECTS = 1000
_MOST_ANSWER = 100_000_000
"""Bytes of the objects in Label Studio's description of a project."""


class ConnectionConflictError(ValueError):
    """A stranger told another Label Studio for a project than is known."""


class KnownProjects:
    """Decides what is believed of a project's Label Studio. May be shared between threads.

    Args:
        settings: The deployment's options.
        connections: Remember what was told.
        registry: Projects that have versions are known.
        images: Asks Label Studio, by the rules of its images.
    """

    def __init__(self, settings: Settings, connections: Connections, registry: Registry, images: ImageLoader) -> None:
        self._settings = settings
        self._connections = connections
        self._registry = registry
        self._images = images
        self._confirmed: OrderedDict[str, None] = OrderedDict()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="confirmation")
        self._asked: set[str] = set()
        self._lock = Lock()

    def remember(self, project: str, told: Connection) -> None:
        """Keeps what a /setup told, or refuses to.

        Without a password anybody may have told it: Label Studio is asked, in the background, whether it has the
        project. Until it says so, no event of the project is heeded.

        Raises:
            RequestError: If the project's name could not be a file's, or the address is none.
            ConnectionConflictError: If it would replace what is known, and is not believed.
        """
        if not is_web_address(told.hostname):
            raise RequestError(f"hostname is {told.hostname[:200]!r}; expected such as http://127.0.0.1:8080")
        known = self._connections.find(project)
        is_confirmed = bool(self._settings.basic_auth_password)
        if not is_confirmed and known is not None and known != told:
            is_confirmed = self._may_replace(project, known, told)
        self._connections.remember(project, replace(told, confirmed=is_confirmed))

    def knows(self, project: str) -> bool | None:
        """Whether a project is one of ours; ``None``: Label Studio is to be asked."""
        told = self._connections.find(project)
        if (told is not None and told.confirmed) or project in self._confirmed or project in self._registry.projects():
            return True
        connection = by_settings(self._settings, told)
        return None if connection is not None and connection.hostname else False

    def ask(self, project: str, then: Callable[[bool | None], object]) -> None:
        """Asks Label Studio in the background, once at a time.

        Args:
            project: Label Studio's id, such as ``"1.1795392500"``.
            then: Is told whether the project exists; ``None``: Label Studio cannot be asked now. Whoever asks while
                another one does is not told.
        """
        with self._lock:
            if project in self._asked:
                return
            if is_full := len(self._asked) >= MOST_ASKED:
                logger.warning("project %s is not asked about: %s others are", project, MOST_ASKED)
            else:
                self._asked.add(project)
        if is_full:
            then(None)
        else:
            self._threads.submit(self._ask, project, then)

    def close(self) -> None:
        """Waits for the answers under way; asks no more."""
        self._threads.shutdown(cancel_futures=True)

    def _ask(self, project: str, then: Callable[[bool | None], object]) -> None:
        answer = None
        try:
            answer = self._confirm(project)
            if not answer:
                logger.warning("Label Studio has no project %s", project)
        except Exception as error:
            logger.warning("whether project %s exists cannot be known now: %s", project, error)
        with self._lock:
            self._asked.discard(project)
        then(answer)

    def _may_replace(self, project: str, known: Connection, told: Connection) -> bool:
        """Whether what replaces a known Label Studio is as good as confirmed; raises if it must not."""
        at = self._settings.label_studio_url or known.hostname
        try:
            self._images.check(at, told.token)
            return known.confirmed  # who tells it has an account there
        except (ImageError, LabelStudioError) as error:
            if not known.confirmed and error.status not in (401, 403):
                return False
            why = error
        is_there = why.status in (401, 403)  # it answers, and does not know the token
        try:
            if not (known.confirmed and is_there) and self._has_project(project, told):
                return True
        except (ImageError, LabelStudioError) as error:
            logger.warning("project %s: %s", project, error)
        raise ConnectionConflictError(
            f"the project is connected to {at}, where the new token is not good ({why}): if {told.hostname[:200]} is "
            f"right, delete connections/{project}.json in IHP_DATA_DIR, or set IHP_LABEL_STUDIO_URL or a password"
        )

    def _confirm(self, project: str) -> bool:
        """Asks Label Studio whether it has a project, and keeps the answer if it has."""
        told = self._connections.find(project)
        has_it = self._has_project(project, told)
        if has_it and told is not None:
            self._connections.confirm(project, told)
        elif has_it:
            with self._lock:
                self._confirmed[project] = None
                while len(self._confirmed) > _MOST_PROJECTS:
                    self._confirmed.popitem(last=False)
        return has_it

    def _has_project(self, project: str, told: Connection | None) -> bool:
        """Asks a Label Studio about a project; raises ImageError or LabelStudioError if it cannot be asked now."""
        connection, number = by_settings(self._settings, told), project.partition(".")[0]
        if connection is None or project_key(project) is None:
            return False
        try:
            data = self._images.ask(f"/api/projects/{number}/", connection.hostname, connection.token)
        except (ImageError, LabelStudioError) as error:
            if error.status not in (401, 403, 404):
                raise
            logger.warning("project %s: %s", project, error)
            return False
        shape = measure(data)
        if shape.depth > MOST_DEPTH or shape.memory > _MOST_ANSWER:
            return False
        try:
            return project_key(json.loads(data)) == project
        except ValueError:
            return False
