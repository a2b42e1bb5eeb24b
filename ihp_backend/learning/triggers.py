"""Which of Label Studio's events start a training.

Label Studio waits for the answer to an event while the annotator does, so the work is done on a thread of its own: a
queue that hangs or a full disk costs nobody a second, and is logged.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ihp_backend.files import locked, write_whole
from ihp_backend.label_studio.label_config import LabelConfig, LabelConfigError
from ihp_backend.learning.queue import TrainingQueue
from ihp_backend.logs import fields
from ihp_backend.settings import Settings

logger = logging.getLogger(__name__)

START = "START_TRAINING"
NEW = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED")
DELETED = "ANNOTATIONS_DELETED"
EVENTS = (START, *NEW, DELETED)
_KEY = re.compile(r"[0-9]{1,18}\.[0-9]{1,18}")  # it becomes a file's name
_WAIT_S = 0.05
"""The annotator waits for the answer, too."""


@dataclass(frozen=True)
class _Count:
    """The new annotations of a project, and how many of them start a training; 0: none do."""

    limit: int = 0
    annotations: tuple[int, ...] = ()


class Triggers:
    """Counts each project's new annotations, and asks for a training when there are enough, or when told.

    An annotation that is changed twice counts once; one that is deleted or skipped does not count.
    """

    def __init__(self, settings: Settings, queue: TrainingQueue) -> None:
        self._settings = settings
        self._queue = queue
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="triggers")

    def take(self, action: str, body: Mapping[str, Any]) -> str:
        """Takes an event in, and says at once what becomes of it.

        Args:
            action: Such as ``"ANNOTATION_CREATED"``.
            body: The event, as Label Studio sends it.

        Returns:
            ``ignored``, ``counted``, ``queued``, ``already queued``, ``already running``, ``accepted`` (of which we
            know nothing yet), or ``failed``.
        """
        if action not in EVENTS:
            return "ignored"
        try:
            doing: Future[str] = self._thread.submit(self._take, action, body)
            return doing.result(_WAIT_S)
        except TimeoutError:
            return "accepted"
        except RuntimeError as error:  # the process ends
            logger.error("the event %s is lost: %s", action, error)
            return "failed"

    def ask_if_due(self, project: str) -> str | None:
        """Asks for a training if enough annotations are new, and tells the answer; ``None`` if they are not.

        The trainer does so at the end of a training: what came meanwhile may be enough for the next.

        Args:
            project: Label Studio's id.

        Raises:
            OSError: If the count or the request cannot be written down.
        """
        with self._lock(project):
            return self._ask_if_due(project, self._read(project))

    def _take(self, action: str, body: Mapping[str, Any]) -> str:
        try:
            project = project_key(body.get("project"))
            if project is None:
                logger.warning("the event %s names no project; its webhook must send payloads", action)
                return "ignored"
            if action == START:
                answer = self._queue.ask(project, "Label Studio's Start Training")
                if answer != "already running":  # that one may have begun without them: they count for the next
                    with self._lock(project):
                        self._write(project, _Count())
                return answer
            with self._lock(project):
                count = _Count(self._limit(body), tuple(_updated(self._read(project).annotations, action, body)))
                self._write(project, count)
                self._ask_if_due(project, count)
            return "counted"
        except Exception as error:
            logger.error("the event %s is lost: %s", action, error, extra=fields(kind=type(error).__name__))
            return "failed"

    def _ask_if_due(self, project: str, count: _Count) -> str | None:
        if not count.limit or not count.annotations:
            return None
        # After a training that failed, the next annotation asks again: those that asked for it would be lost otherwise.
        if len(count.annotations) < count.limit and self._queue.records.read(project).state != "failed":
            return None
        answer = self._queue.ask(project, f"{len(count.annotations)} new or changed annotations")
        if answer != "already running":
            self._write(project, _Count(count.limit))
        return answer

    def _limit(self, body: Mapping[str, Any]) -> int:
        try:
            own = LabelConfig.parse(body["project"]["label_config"]).train_after
        except (LabelConfigError, KeyError, TypeError) as error:
            logger.info("the project's own limit is not known: %s", str(error).partition("\n")[0])
            own = None
        return self._settings.train_after if own is None else own

    def _path(self, project: str) -> Path:
        return self._queue.records.folder / "new" / f"{project}.json"

    def _lock(self, project: str) -> AbstractContextManager[None]:
        return locked(self._path(project).with_suffix(".lock"))

    def _read(self, project: str) -> _Count:
        try:
            values = json.loads(self._path(project).read_text())
            return _Count(int(values["limit"]), tuple(int(number) for number in values["annotations"]))
        except FileNotFoundError:
            return _Count()
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning("the new annotations of project %s are counted from 0: %s", project, error)
            return _Count()

    def _write(self, project: str, count: _Count) -> None:
        if count != self._read(project):
            write_whole(self._path(project), json.dumps({"limit": count.limit, "annotations": count.annotations}))


def project_key(project: object) -> str | None:
    """Returns the id by which /setup and /predict call a project, such as ``"1.1795392500"``.

    Args:
        project: The project as an event tells it, with ``id`` and ``created_at``; or the id itself.
    """
    if isinstance(project, str):
        return project if _KEY.fullmatch(project) else None
    if not isinstance(project, Mapping) or not isinstance(project.get("id"), int):
        return None
    try:
        created = datetime.fromisoformat(str(project.get("created_at")))
    except ValueError:
        return None
    return f"{project['id']}.{int(created.timestamp())}"


def _updated(known: Sequence[int], action: str, body: Mapping[str, Any]) -> list[int]:
    """Returns the ids of the new annotations after an event."""
    new = list(known)
    told = body.get("annotations") if action == DELETED else body.get("annotation")
    for annotation in told if isinstance(told, list) else [told]:
        if not isinstance(annotation, Mapping) or not isinstance(annotation.get("id"), int):
            continue
        number = annotation["id"]
        new = [other for other in new if other != number]
        if action != DELETED and not annotation.get("was_cancelled"):
            new.append(number)
    return new
