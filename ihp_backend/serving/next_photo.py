"""The photo that is likely opened next, made ready while its annotator looks at this one.

Label Studio hands tasks out by their numbers unless a project is set to random or uncertain ones: then nobody can know.
It says nothing of a task that opens with predictions until the first click, which then finds the photo here.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import BoundedSemaphore, Lock, Thread
from typing import Any

from ihp_backend.label_studio.client import Client
from ihp_backend.label_studio.connections import Connection
from ihp_backend.label_studio.images import ASK_BYTES, ASK_S
from ihp_backend.logs import fields

logger = logging.getLogger(__name__)

_IN_ORDER = "Sequential sampling"
_STEPS = 2
"""Once all people are found, the largest ones: more would push out what is kept of this photo."""
_REMEMBERED = 256
Step = Callable[[], Any]
Open = Callable[[Mapping[str, Any]], Callable[[], list[Step]]]
"""Loads the photo of a task, and returns what finds out, as a step itself, which steps there are."""


class NextPhoto:
    """Makes next photos ready, one at a time. May be shared between threads.

    Args:
        run_when_quiet: Runs a step when nobody waits for anything; whether it did.
    """

    def __init__(self, run_when_quiet: Callable[[Step], bool]) -> None:
        self._run_when_quiet = run_when_quiet
        self._done: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._lock = Lock()
        self._place = BoundedSemaphore(1)

    def after(self, project: str, task: int, connection: Connection, open_photo: Open) -> Thread | None:
        """Starts to make the photo ready that comes after a task; at most once for each.

        A failure is logged: whoever opens that task will meet it again.

        Args:
            project: Label Studio's id of the project.
            task: The number of the task that is open.
            connection: The Label Studio; one that may be asked.
            open_photo: See ``Open``.

        Returns:
            The thread that does it; ``None`` if it was done, or another one is being made ready.
        """
        number = project.partition(".")[0]
        if not number.isdecimal() or not self._place.acquire(blocking=False):
            return None
        with self._lock:
            is_news = (project, task) not in self._done
            self._done[project, task] = None
            while len(self._done) > _REMEMBERED:
                self._done.popitem(last=False)
        if not is_news:
            self._place.release()
            return None

        def work() -> None:
            try:
                found = _next_task(_client(connection), int(number), task)
                if found is not None:
                    find_steps, steps = open_photo(found), list[Step]()
                    self._run_when_quiet(lambda: steps.extend(find_steps()))
                    for step in steps[:_STEPS]:
                        self._run_when_quiet(step)
            except Exception as error:
                logger.info("the next photo is not made ready: %s", error, extra=fields(project=project, task=task))
            finally:
                self._place.release()

        thread = Thread(target=work, name="next photo", daemon=True)
        thread.start()
        return thread


def _client(connection: Connection) -> Client:
    return Client(connection.hostname, connection.token, timeout_s=ASK_S, answer_bytes=ASK_BYTES)


def _next_task(client: Client, project: int, task: int) -> Mapping[str, Any] | None:
    """The next task that nobody has annotated, without its masks; ``None`` if there is none, or it may be any."""
    if client.get_project(project).get("sampling", _IN_ORDER) != _IN_ORDER:
        return None
    return next(client.select_tasks(project, annotated=False, page_size=1, masks=False, after=task), None)
