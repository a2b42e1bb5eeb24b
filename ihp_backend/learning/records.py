"""What is known of each project's training: one small file a project, which server and trainer share.

The record is the truth, the queue only carries it: a training that its record calls queued is done even if the queue
loses it. Who trains holds the project's lock, which ends with the process, however that ends.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import sleep

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ihp_backend.files import LockedError, is_file_name, is_locked, locked, write_whole
from ihp_backend.stored_records import DamagedRecordError, read_record

logger = logging.getLogger(__name__)

BUSY = ("queued", "running", "waiting")
OUTCOMES = ("promoted", "rejected", "failed")
MOST_SERIES = 200
"""Of so many projects, /metrics tells each one's trainings."""
_TRIES, _PAUSE_S = 5, 0.05


@dataclass(frozen=True)
class Record:
    """The last training of a project, or the one under way.

    Attributes:
        state: ``never``, ``queued``, ``running``, ``waiting`` (for another try), or an outcome: ``promoted``,
            ``rejected``, ``failed``.
        reason: Why it is so, for people.
        thorough: Whether somebody asked for it, rather than a count of annotations: it may take minutes.
        then_thorough: Whether a thorough one was asked for while a quick one ran: it comes next.
        version: The version that came out.
        attempts: How often it was begun.
        retry_at: When a waiting one is due, in seconds since 1970.
        asked, started, ended: ISO 8601, UTC.
        stage: What a running one does, and how much of that is done, 0 to 1.
        share: See ``stage``.
        left_out: Why tasks were left out, at most some of them.
        outcomes: How many trainings ended so, over all time.
        seconds: How long the last one took.
        total_seconds: How long all took.
    """

    state: str = "never"
    reason: str = ""
    thorough: bool = False
    then_thorough: bool = False
    version: str = ""
    attempts: int = 0
    retry_at: float = 0.0
    asked: str = ""
    started: str = ""
    ended: str = ""
    stage: str = ""
    share: float = 0.0
    left_out: tuple[str, ...] = ()
    outcomes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    total_seconds: float = 0.0


class TrainingRecords:
    """The records of all projects below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def splits(self) -> Path:
        """The folder in which it is kept which tasks of each project are held back, see ``data.split``."""
        return self.folder / "splits"

    def projects(self) -> list[str]:
        """Returns the projects that have a record."""
        names = [path.name.removesuffix(".json") for path in self.folder.glob("[!.]*.json")]
        return sorted(filter(is_file_name, names))

    def read(self, project: str) -> Record:
        """Returns a project's record; one that is missing or damaged counts as ``never``."""
        path = self.folder / f"{project}.json"
        try:
            return read_record(Record, path)
        except FileNotFoundError:
            return Record()
        except (OSError, DamagedRecordError) as error:
            logger.warning("the record of project %s cannot be read: %s", project, error)
            return Record()

    def change(self, project: str, change: Callable[[Record], Record]) -> Record:
        """Reads, changes and writes a record, while nobody else does.

        Raises:
            OSError: If it cannot be written, as on a full disk.
        """
        with locked(self.folder / f".{project}.change"):
            before = self.read(project)
            after = change(before)
            if after != before:
                write_whole(self.folder / f"{project}.json", json.dumps(asdict(after), indent=1) + "\n")
        return after

    @contextmanager
    def training(self, project: str) -> Iterator[None]:
        """Holds a project's training for the block; raises LockedError if another trainer does."""
        with ExitStack() as stack:
            for left in reversed(range(_TRIES)):
                try:
                    stack.enter_context(locked(self._lock(project), wait=False))
                    break
                except LockedError:
                    if not left:
                        raise
                    sleep(_PAUSE_S)  # perhaps somebody only looks whether it is held
            yield

    def is_training(self, project: str) -> bool:
        """Whether a trainer that is alive holds the project."""
        try:
            return self._lock(project).exists() and is_locked(self._lock(project))
        except OSError as error:
            logger.warning("whether project %s is trained cannot be known: %s", project, error)
            return False

    def _lock(self, project: str) -> Path:
        return self.folder / f".{project}.training"


class TrainingCounts(Collector):
    """What /metrics tells of trainings, read from the records at each look: the trainer is another process."""

    def __init__(self, records: TrainingRecords) -> None:
        self._records = records

    def collect(self) -> Iterator[Metric]:
        """Yields trainings by outcome and their time, what runs, and what waits."""
        projects = self._records.projects()[-MOST_SERIES:]
        records = {project: self._records.read(project) for project in projects}
        ended = CounterMetricFamily("ihp_trainings", "Trainings that ended", labels=("project", "outcome"))
        seconds = CounterMetricFamily("ihp_training_seconds", "Time that trainings took", labels=("project",))
        running = GaugeMetricFamily("ihp_training_running", "1 while a trainer has the project", labels=("project",))
        share = GaugeMetricFamily("ihp_training_share", "Share of the stage that is done", labels=("project", "stage"))
        for project, record in records.items():
            for outcome in OUTCOMES:
                ended.add_metric((project, outcome), record.outcomes.get(outcome, 0))
            seconds.add_metric((project,), record.total_seconds)
            is_running = record.state == "running" and self._records.is_training(project)
            running.add_metric((project,), int(is_running))
            if is_running:
                share.add_metric((project, record.stage), record.share)
        waiting = sum(record.state in ("queued", "waiting") for record in records.values())
        length = GaugeMetricFamily("ihp_training_queue", "Projects that wait for a trainer", value=waiting)
        yield from (ended, seconds, running, share, length)


def now() -> str:
    """Returns the time as ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
