"""Which of Label Studio's events start a training.

Label Studio waits for the answer to an event while the annotator does, so the work is done on a thread of its own: a
queue that hangs or a full disk costs nobody a second, and is logged.
"""

from __future__ import annotations

import json
import logging
import re
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from ihp_backend.again import Again
from ihp_backend.files import locked, write_whole
from ihp_backend.label_studio.label_config import LabelConfig, LabelConfigError
from ihp_backend.learning.queue import TrainingQueue
from ihp_backend.logs import fields
from ihp_backend.settings import Settings
from ihp_backend.stored_records import DamagedRecordError, read_record

logger = logging.getLogger(__name__)

START = "START_TRAINING"
NEW = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED")
DELETED = "ANNOTATIONS_DELETED"
EVENTS = (START, *NEW, DELETED)
_KEY = re.compile(r"[0-9]{1,18}\.[0-9]{1,18}")  # it becomes a file's name
_MOST_COUNTED = 10_000
_MOST_UNWRITTEN = 10_000
_MOST_WAITING, MOST_DOUBTFUL = 300, 1000
"""So many events wait to be looked at; so many, and annotations of them, for Label Studio's word on their project."""
WAIT_S = 0.05
"""The annotator waits for the answer, too."""


@dataclass(frozen=True)
class _Count:
    """The new annotations of a project, and how many of them start a training; 0: none do."""

    limit: int = 0
    annotations: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Event:
    """What an event means: a project is to be trained, or these annotations of it are new, or are no more."""

    action: str
    project: str
    limit: int = 0
    annotations: tuple[tuple[int, bool], ...] = ()


class Triggers:
    """Counts each project's new annotations, and asks for a training when there are enough, or when told.

    An annotation that is changed twice counts once; one that is deleted or skipped does not count. An event that cannot
    be written down, as on a full disk, is kept in memory and written when it can be.

    Args:
        settings: The deployment's options.
        queue: Where trainings are asked for.
        knows: Whether a project is known: events of others are invented, or cannot be trained. ``None``: it is to be
            asked.
        ask: Asks Label Studio about a project in the background, and tells whether it exists; ``None``: not now.
    """

    def __init__(
        self,
        settings: Settings,
        queue: TrainingQueue,
        knows: Callable[[str], bool | None] = lambda project: True,
        ask: Callable[[str, Callable[[bool | None], object]], object] = lambda project, then: then(None),
    ) -> None:
        self._settings = settings
        self._queue = queue
        self.knows = knows
        self._ask = ask
        self._places = BoundedSemaphore(_MOST_WAITING)
        self._doubtful: deque[tuple[_Event, Future[str]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="triggers")
        self._unwritten: deque[_Event] = deque()
        self._again = Again("events", lambda: self._thread.submit(self._write_again).result(), self._write_again)

    def take(self, action: str, body: Mapping[str, Any]) -> str:
        """Takes an event in, and says at once what becomes of it.

        Args:
            action: Such as ``"ANNOTATION_CREATED"``.
            body: The event, as Label Studio sends it.

        Returns:
            ``ignored``, ``counted``, ``queued``, ``already queued``, ``already running``, ``accepted`` (of which we
            know nothing yet), ``postponed`` (it cannot be written down now, and is later), or ``failed``.
        """
        if action not in EVENTS:
            return "ignored"
        outcome: Future[str] = Future()
        if not self._places.acquire(blocking=False):
            logger.error("the event %s is lost: %s others wait", action, _MOST_WAITING)
            return "failed"
        try:
            self._thread.submit(self._take, self._event(action, body), outcome)
            return outcome.result(WAIT_S)
        except TimeoutError:
            return "accepted"
        except Exception as error:  # such as of a process that ends
            self._places.release()
            logger.error("the event %s is lost: %s", action, error, extra=fields(kind=type(error).__name__))
            return "failed"

    def settle(self, project: str, exists: bool | None) -> None:
        """Takes in what Label Studio says of a project; ``None``: it cannot be asked now, and events of it wait on."""
        self._thread.submit(self._settle, project, exists)

    @property
    def unwritten(self) -> int:
        """How many events wait until they can be written down."""
        return len(self._unwritten)

    def close(self) -> None:
        """Waits until the events that were taken in are done; takes no more."""
        self._thread.shutdown()

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

    def _event(self, action: str, body: Mapping[str, Any]) -> _Event | None:
        project = project_key(body.get("project"))
        if project is None:
            logger.warning("the event %s names no project; its webhook must send payloads", action)
            return None
        limit, told = (0, ()) if action == START else (self._limit(body), told_annotations(action, body))
        return _Event(action, project, limit, told)

    def _take(self, event: _Event | None, outcome: Future[str]) -> None:
        answer = "ignored"
        try:
            known = event is not None and self.knows(event.project)
            if event is not None and known is None:
                self._doubtful.append((event, outcome))
                self._ask(event.project, partial(self.settle, event.project))
                return
            if event is not None:
                answer = self._keep(event) if known else self._ignored(event)
        except Exception as error:
            answer = self._lost(event, error)
        finally:
            self._places.release()
        outcome.set_result(answer)

    def _settle(self, project: str, is_known: bool | None) -> None:
        """Writes down the events that waited for Label Studio's word, or drops them, or lets them wait on."""
        waiting, self._doubtful = self._doubtful, deque()
        for event, outcome in waiting:
            if event.project != project or is_known is None:
                self._doubtful.append((event, outcome))
                answer = "postponed" if event.project == project else ""
            else:
                try:
                    answer = self._keep(event) if is_known else self._ignored(event)
                except Exception as error:
                    answer = self._lost(event, error)
            if answer and not outcome.done():
                outcome.set_result(answer)
        while sum(1 + len(event.annotations) for event, _ in self._doubtful) > MOST_DOUBTFUL:
            event, _ = self._doubtful.popleft()
            logger.error(
                "the event %s of project %s is lost: Label Studio cannot be asked", event.action, event.project
            )

    def _ignored(self, event: _Event) -> str:
        logger.warning("the event %s is of project %s, which nobody has connected", event.action, event.project)
        return "ignored"

    def _lost(self, event: _Event | None, error: Exception) -> str:
        action = event.action if event else "without a project"
        logger.error("the event %s is lost: %s", action, error, extra=fields(kind=type(error).__name__))
        return "failed"

    def _keep(self, event: _Event) -> str:
        """Writes an event down, now or as soon as that is possible."""
        try:
            if self._unwritten:  # in their order
                self._write_again()
            return self._written(event)
        except OSError as error:
            if len(self._unwritten) >= _MOST_UNWRITTEN:
                logger.error("the event %s is lost: %s", event.action, error)
                return "failed"
            self._unwritten.append(event)
            self._again.later()
            logger.error("the event %s cannot be written down, later again: %s", event.action, error)
            return "postponed"

    def _write_again(self) -> None:
        while self._unwritten:
            event = self._unwritten[0]
            try:
                self._written(event)
            except OSError:
                raise
            except Exception:
                logger.exception("the event %s of project %s is lost", event.action, event.project)
            self._unwritten.popleft()

    def _written(self, event: _Event) -> str:
        """Writes down what an event means; raises OSError if that cannot be."""
        project = event.project
        if event.action == START:
            answer = self._queue.ask(project, "Label Studio's Start Training", thorough=True)
            if answer != "already running":  # that one may have begun without them: they count for the next
                with self._lock(project):
                    self._write(project, _Count())
            return answer
        with self._lock(project):
            new = list(self._read(project).annotations)
            for number, is_new in event.annotations:
                new = [other for other in new if other != number] + [number] * is_new
            count = _Count(event.limit, tuple(new[-_MOST_COUNTED:]))
            self._write(project, count)
            self._ask_if_due(project, count)
        return "counted"

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
            return read_record(_Count, self._path(project))
        except FileNotFoundError:
            return _Count()
        except DamagedRecordError as error:
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
        created = int(datetime.fromisoformat(str(project.get("created_at"))).timestamp())
    except (ValueError, OverflowError, OSError):  # such as of the year 1
        return None
    key = f"{project['id']}.{created}"
    return key if _KEY.fullmatch(key) else None


def told_annotations(action: str, body: Mapping[str, Any]) -> tuple[tuple[int, bool], ...]:
    """Returns the ids of an event's annotations, and whether each is new: not deleted, and not skipped."""
    told = body.get("annotations") if action == DELETED else body.get("annotation")
    found = []
    for annotation in told if isinstance(told, list) else [told]:
        if not isinstance(annotation, Mapping):
            continue
        number = annotation.get("id")
        if isinstance(number, int) and abs(number) < 2**63:
            found.append((number, action != DELETED and not annotation.get("was_cancelled")))
    return tuple(found[:_MOST_COUNTED])
