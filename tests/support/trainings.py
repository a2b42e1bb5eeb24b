"""A queue of trainings in a folder, two projects, and what comes of a training that goes well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ihp_backend.learning.queue import Report, Result, TrainingQueue
from ihp_backend.settings import Settings

P, Q = "1.1795392500", "2.1795394116"
DONE = Result("promoted", "fewer clicks", "lip-2+p1.001")


def queue_of(tmp_path: Path, work: Callable[[str, Report], Result] | None = None, **environment: str) -> TrainingQueue:
    queue = TrainingQueue(Settings.from_environment({"IHP_DATA_DIR": str(tmp_path), **environment}))
    queue.work = work
    return queue
