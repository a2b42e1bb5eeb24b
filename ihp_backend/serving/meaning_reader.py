"""Reads off each submitted annotation what the project's own labels mean, on a thread of its own, within a second."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

from ihp_backend.label_studio.annotated_tasks import TaskError, annotated_photos, painted
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.learning.label_meanings import Overlaps
from ihp_backend.learning.triggers import DELETED, NEW, project_key, told_annotations
from ihp_backend.logs import fields
from ihp_backend.serving.answering import load_photo

if TYPE_CHECKING:
    from ihp_backend.serving.runtime import Runtime

logger = logging.getLogger(__name__)

_MOST_WAITING = 4


class MeaningReader:
    """Takes events in as ``Triggers`` does, and keeps in ``Runtime.meanings`` what they show.

    What cannot be read is logged and left: the next annotation shows as much. So are events that come faster than they
    are read, as from a script.

    Args:
        runtime: The models, the photos and the meanings.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="meanings")
        self._places = BoundedSemaphore(_MOST_WAITING)

    def take(self, action: str, body: Mapping[str, Any]) -> None:
        """Takes an event in and returns at once.

        Args:
            action: Such as ``"ANNOTATION_CREATED"``.
            body: The event, as Label Studio sends it.
        """
        if action not in (*NEW, DELETED) or not self._places.acquire(blocking=False):
            return
        try:
            self._thread.submit(self._take, action, body)
        except RuntimeError:  # the process ends
            self._places.release()

    def close(self) -> None:
        """Waits until the events that were taken in are read; takes no more."""
        self._thread.shutdown()

    def _take(self, action: str, body: Mapping[str, Any]) -> None:
        try:
            self._read(action, body)
        except Exception as error:
            kind = type(error).__name__
            logger.warning("an annotation does not tell what its labels mean: %s", error, extra=fields(kind=kind))
        finally:
            self._places.release()

    def _read(self, action: str, body: Mapping[str, Any]) -> None:
        project = project_key(body.get("project"))
        if project is None or not self._runtime.triggers.knows(project):
            return
        meanings = self._runtime.meanings
        told = told_annotations(action, body)
        if gone := [number for number, is_new in told if not is_new]:
            meanings.forget(project, gone)
        task, annotation = body.get("task"), body.get("annotation")
        new = [number for number, is_new in told if is_new]
        if not new or not isinstance(task, Mapping) or not isinstance(annotation, Mapping):
            return
        config = LabelConfig.parse(body["project"]["label_config"]).with_all_labels()
        if config.meanings == "told":
            return
        predictor = self._runtime.predictor(project, config)
        own = [label for label, parts in config.parts(predictor.schema).items() if not parts]
        if not own:
            return
        try:  # of several photos of a task the first one that is annotated tells enough
            _, view = annotated_photos({**task, "annotations": [annotation]}, config)[0]
        except TaskError:
            return
        image, _ = load_photo(self._runtime, project, view, task)
        ids = {label: view.labels.index(label) + 1 for label in own if label in view.labels}
        with self._runtime.memory.taken(2 * image.size, "the meaning of labels"):
            labels = painted(annotation, view, image.shape[0], image.shape[1])
            overlaps = self._runtime.computing.run(lambda: Overlaps.read(predictor, image, labels, ids))
        before = meanings.parts(project, config, predictor.schema)
        meanings.note(project, new[0], overlaps)
        after = meanings.parts(project, config, predictor.schema)
        for label in own:
            if after[label] != before[label]:
                parts = ", ".join(after[label]) or "no parts"
                logger.info("the label %r means %s", label, parts, extra=fields(project=project))
