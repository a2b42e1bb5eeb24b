"""Pre-annotation as work for many: a project's tasks are cut into jobs, which any number of trainers take.

The jobs are small files that all share, as the records of trainings are, and the queue only carries their names: what
it loses is put in again. Who does a job holds its lock, which ends with the process, however that ends, so another one
takes the job of one that died. Doing a job twice does nothing: its tasks that have their prediction are passed over.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from huey import Huey

from ihp_backend.files import LockedError, is_file_name, is_locked, locked, write_whole
from ihp_backend.learning.queue import InterruptedTraining
from ihp_backend.logs import fields
from ihp_backend.stored_records import DamagedRecordError, read_record

logger = logging.getLogger(__name__)

ATTEMPTS = 5
FIRST_RETRY_S = 5.0
_PUT_BACK = 100
"""Jobs that are put into an empty queue at once."""
_PAUSE_S = 0.2


@dataclass(frozen=True)
class Run:
    """All jobs of a project.

    Attributes:
        name: What its jobs' names begin with; no two runs share it.
        number: The project's number in Label Studio.
        version: The version that was served when the tasks were listed.
        tasks: How many tasks there are.
        batch: How many of them are predicted and sent at once.
    """

    name: str
    number: int
    version: str
    tasks: int
    batch: int


@dataclass(frozen=True)
class Counts:
    """What became of tasks: predicted, passed over (they had their prediction, or an annotation), without a mask."""

    made: int = 0
    passed: int = 0
    empty: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.made + other.made, self.passed + other.passed, self.empty + other.empty)


@dataclass(frozen=True)
class Job:
    """Some tasks of a run.

    Attributes:
        tasks: Their ids, the least first.
        begun: How often somebody began with them.
        attempts: How often since anything came of it.
        retry_at: When it may be tried again, in seconds since 1970.
        reason: Why it failed last.
        made, passed, empty: See ``Counts``, of a job that is done.
    """

    tasks: tuple[int, ...]
    begun: int = 0
    attempts: int = 0
    retry_at: float = 0.0
    reason: str = ""
    made: int = 0
    passed: int = 0
    empty: int = 0


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        counts: What became of the tasks of the jobs that are done.
        tasks: How many tasks these are, those of given-up jobs among them.
        failures: Why jobs were given up.
        left: How many jobs are not done.
        worked_on: Whether somebody does one now.
    """

    counts: Counts
    tasks: int
    failures: tuple[str, ...]
    left: int
    worked_on: bool


Work = Callable[[Run, Job, Callable[[int], None]], Counts]
"""Does a job: given the run, the job, and what to tell, after each batch, how many predictions were sent."""


class PreannotationJobs:
    """The jobs of all projects below one folder.

    Args:
        folder: The folder.
        transport: Opens the queue, which trainings use, too.

    Attributes:
        work: Does a job, in a process that does; see ``Work``.
    """

    def __init__(self, folder: Path, transport: Callable[[], Huey]) -> None:
        self.folder = folder
        self.work: Work | None = None
        self._transport = transport
        self._stopping = False

    def begin(
        self, project: str, number: int, version: str, tasks: Callable[[], Iterable[int]], *, batch: int, size: int
    ) -> Run:
        """Returns the run of a project that is under way with this version; without one, cuts tasks into jobs.

        A stop in between leaves no run.

        Args:
            project: Label Studio's id, such as ``"1.1795392500"``.
            number: Its number.
            version: The version that is served.
            tasks: Lists the ids, the least first.
            batch: How many tasks are predicted and sent at once.
            size: How many make a job.

        Raises:
            OSError: If the jobs cannot be written, as on a full disk.
        """
        home = self.folder / project
        with locked(self.folder / f".{project}.cut"):
            run = self.read(project)
            if run and run.version == version and _names(home / "open", run.name):
                return run
            (home / "run.json").unlink(missing_ok=True)  # nobody begins with its jobs any more
            while self._is_worked_on(project):
                time.sleep(_PAUSE_S)
            shutil.rmtree(home, ignore_errors=True)
            name, count = format(time.time_ns(), "x"), 0
            names: list[str] = []
            ids = iter(tasks())
            while some := tuple(islice(ids, size)):
                names.append(f"{name}-{len(names):07d}")
                self._write(home / "open" / names[-1], Job(some))
                count += len(some)
            run = Run(name, number, version, count, batch)
            write_whole(home / "run.json", json.dumps(asdict(run)) + "\n")
        for job in names:
            if not self._send(project, job):
                break  # the queue is down; they are put in later
        return run

    def read(self, project: str) -> Run | None:
        """Returns the run of a project; ``None`` if it has none, or one that was not cut to the end."""
        try:
            return read_record(Run, self.folder / project / "run.json")
        except FileNotFoundError:
            return None
        except (OSError, DamagedRecordError) as error:
            logger.warning("the pre-annotation of project %s cannot be read: %s", project, error)
            return None

    def progress(self, project: str, run: Run, seen: dict[str, Job]) -> Progress:
        """Says how far a run is.

        Args:
            project: Label Studio's id.
            run: The run.
            seen: The jobs that were done when asked before: only others are read, and kept here.
        """
        home = self.folder / project
        left = [name for name in _names(home / "open", run.name) if name not in seen]
        for name in _names(home / "done", run.name):
            if name not in seen and (job := self._read(home / "done" / name)):
                seen[name] = job
        left = [name for name in left if name not in seen]
        counts = sum((Counts(job.made, job.passed, job.empty) for job in seen.values()), Counts())
        failures = tuple(job.reason for job in seen.values() if job.reason)
        tasks = sum(len(job.tasks) for job in seen.values())
        return Progress(counts, tasks, failures, len(left), self._is_worked_on(project))

    def put_back_lost(self) -> None:
        """Puts jobs into the queue that nobody does, once it is empty.

        Raises:
            Exception: If the queue cannot be reached.
        """
        if int(self._transport().pending_count()) > 0:
            return
        for project in _names(self.folder):
            if run := self.read(project):
                for name in islice(self._lost(project, run), _PUT_BACK):
                    self._send(project, name)

    def run(self, project: str, name: str) -> None:
        """Does one job, if it is left to do and nobody does it.

        Args:
            project: Label Studio's id.
            name: The job's.
        """
        if self.work is None:
            raise RuntimeError("this process does no jobs; `ihp trainer` does")
        if not (is_file_name(project) and is_file_name(name)):
            return
        home = self.folder / project
        try:
            if not (home / "open" / name).exists():
                return
            with locked(home / "locks" / name, wait=False):
                run = self.read(project)  # in the lock: see `begin`
                if run and name.startswith(f"{run.name}-"):
                    self._run(project, run, name, self.work)
        except LockedError:
            logger.info("another one has the job", extra=fields(project=project, job=name))
        except OSError as error:
            logger.error("what came of job %s of %s cannot be written down: %s", name, project, error)

    def stop(self) -> None:
        """Ends a job under way after its batch; another process takes it."""
        self._stopping = True

    @cached_property
    def task(self) -> Callable[[str, str], Any]:
        """Puts a job of a project into the queue, behind the trainings."""
        task: Callable[[str, str], Any] = self._transport().task(name="preannotate")(self.run)
        return task

    def _run(self, project: str, run: Run, name: str, work: Work) -> None:
        home = self.folder / project
        here = home / "open" / name
        if (found := self._read(here)) is None or (home / "done" / name).exists():
            here.unlink(missing_ok=True)
            return
        if _waits(found):
            return  # the queue carries it twice
        job = replace(found, begun=found.begun + 1, attempts=found.attempts + 1)
        if job.attempts > ATTEMPTS or not job.tasks:
            died = f"the worker died {ATTEMPTS} times in the middle"
            return self._close(home, name, replace(job, reason=job.reason or died))
        self._write(here, job)

        def sent(count: int) -> None:
            nonlocal job
            if count and job.attempts:
                job = replace(job, attempts=0)
                self._write(here, job)
            if self._stopping:
                raise InterruptedTraining

        try:
            counts = work(run, job, sent)
        except InterruptedTraining:
            self._write(here, replace(job, attempts=max(0, job.attempts - 1)))
        except Exception as error:
            logger.warning("a job failed: %s", error, extra=fields(project=project, job=name, attempt=job.attempts))
            job = replace(job, reason=str(error) or type(error).__name__)
            if job.attempts >= ATTEMPTS:
                self._close(home, name, job)
            else:
                pause = FIRST_RETRY_S * 4 ** max(0, job.attempts - 1)
                self._write(here, replace(job, retry_at=time.time() + pause))
        else:
            self._close(home, name, replace(job, reason="", **asdict(counts)))

    def _close(self, home: Path, name: str, job: Job) -> None:
        """Puts a job among those that are done; who comes to its lock later finds it there."""
        self._write(home / "done" / name, job)
        (home / "open" / name).unlink(missing_ok=True)
        (home / "locks" / name).unlink(missing_ok=True)

    def _is_worked_on(self, project: str) -> bool:
        locks = self.folder / project / "locks"
        return any(is_locked(locks / name) for name in _names(locks))

    def _lost(self, project: str, run: Run) -> Iterator[str]:
        home = self.folder / project
        for name in _names(home / "open", run.name):
            lock = home / "locks" / name
            if lock.exists() and is_locked(lock):
                continue
            job = self._read(home / "open" / name)
            if job and not _waits(job):
                yield name

    def _send(self, project: str, name: str) -> bool:
        try:
            self.task(project, name)
            return True
        except Exception as error:
            logger.error("the queue does not take job %s of %s, it is tried again: %s", name, project, error)
            return False

    def _read(self, path: Path) -> Job | None:
        try:
            return read_record(Job, path)
        except FileNotFoundError:
            return None
        except DamagedRecordError as error:
            return Job((), reason=str(error))

    def _write(self, path: Path, job: Job) -> None:
        write_whole(path, json.dumps(asdict(job)) + "\n")


def _waits(job: Job) -> bool:
    """Whether a job is not to be tried again yet. If it seems to wait very long, the clock was put back."""
    return 0 < job.retry_at - time.time() <= FIRST_RETRY_S * 4.0**ATTEMPTS


def _names(folder: Path, run: str = "") -> list[str]:
    """Names in a folder that may be ours, in their order; none if it is not there. Those of one run, or all."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(path.name for path in folder.iterdir() if is_file_name(path.name) and path.name.startswith(run))
    return []
