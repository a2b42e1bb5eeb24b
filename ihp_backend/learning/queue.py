"""The queue of trainings: asked for by the server, done by a trainer, beside it or on another machine.

huey carries the jobs, in a SQLite file or Redis. It hands out each job once, so a job would be lost when its trainer is
killed. A trainer therefore puts a job into the queue again if its record says that it is not done. A job twice in the
queue does no harm: a job is only a project's name, and a project is trained only while its record asks for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from huey import Huey

from ihp_backend.files import LockedError
from ihp_backend.learning.queue_transport import FIRST, OrderlyConsumer, open_queue
from ihp_backend.learning.records import BUSY, OUTCOMES, Record, TrainingRecords, now
from ihp_backend.logs import fields
from ihp_backend.settings import Settings

if TYPE_CHECKING:
    from ihp_backend.learning.preannotation_jobs import PreannotationJobs

logger = logging.getLogger(__name__)

ATTEMPTS = 3
FIRST_RETRY_S = 30.0
LOST_AFTER_S = 20.0
_LOOK_EVERY_S = 2.0
_REPORT_EVERY_S = 1.0
_LOG_EVERY_S = 15.0
_GRACE_S = 3.0
Report = Callable[[str, float], None]


class TemporaryError(RuntimeError):
    """A training failed for a reason that may pass; it is tried again."""


class TrainingError(RuntimeError):
    """A training failed for a reason that stays; it is not tried again."""


class InterruptedTraining(BaseException):
    """The trainer stops in the middle; the training is begun again at its next start."""


@dataclass(frozen=True)
class Result:
    """What a training came to: ``promoted`` or ``rejected``, why, and the version."""

    outcome: str
    reason: str
    version: str
    left_out: tuple[str, ...] = ()


class TrainingQueue:
    """Asks for trainings and does them. Cheap to make: the queue is opened at its first use.

    Attributes:
        records: The state of each project's training, on disk.
        work: Trains a project. Only a trainer sets it, see ``serve``.
        after: Called with the project's id when a training has ended.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.records = TrainingRecords(settings.data_dir / "trainings")
        self.work: Callable[[str, Report], Result] | None = None
        self.after: Callable[[str], object] | None = None
        self._stopping = Event()
        self._enough = Event()
        self._current: str | None = None
        self._untold: dict[str, str] = {}
        self._jobs: PreannotationJobs | None = None
        self._heartbeat: Path | None = None

    def ask(self, project: str, reason: str, *, thorough: bool = False) -> str:
        """Asks for a training, and answers at once: ``queued``, ``already queued`` or ``already running``.

        Args:
            project: Label Studio's id, such as ``"1.1795392500"``.
            reason: Who or what asks.
            thorough: Whether it may take minutes. One that is queued already becomes so; while a quick one runs, a
                thorough one is queued behind it.

        Raises:
            OSError: If the request cannot be written down, as on a full disk.
        """
        answer = "queued"

        def queued(record: Record) -> Record:
            nonlocal answer
            if record.state == "running" and self.records.is_training(project):
                if thorough and not record.thorough and not record.then_thorough:
                    return replace(record, then_thorough=True)
                answer = "already running"
                return record
            if record.state in ("queued", "waiting"):
                answer = "already queued"
                return replace(record, state="queued", retry_at=0.0, thorough=record.thorough or thorough)
            return replace(
                record,
                state="queued",
                reason=reason,
                thorough=thorough or record.then_thorough,
                then_thorough=False,
                attempts=0,
                asked=now(),
                retry_at=0.0,
            )

        record = self.records.change(project, queued)
        if record.state == "queued":
            self.send(project)
        logger.info("training %s", answer, extra=fields(project=project, reason=reason))
        return answer

    def put_back_lost(self) -> None:
        """Puts trainings into the queue again that their records call open, but that are neither running nor queued."""
        for project in self.records.projects():
            record = self.records.read(project)
            if record.then_thorough and record.state in OUTCOMES:
                self.ask(project, "asked for while a quick training ran", thorough=True)
                continue
            if record.state not in BUSY or self.records.is_training(project):
                continue
            if record.state == "running":
                after = self.records.change(project, partial(_put_back, why=self._untold.get(project, "")))
                self._untold.pop(project, None)
                line = fields(project=project, state=after.state, reason=after.reason)
                logger.warning("a training that stopped is put back", extra=line)
            elif record.state == "waiting" and not 0 < record.retry_at - time.time() <= _longest_pause_s():
                self.records.change(project, lambda r: replace(r, state="queued") if r.state == "waiting" else r)
            elif record.state == "waiting" or (_age_s(record) < LOST_AFTER_S) or self.carried() > 0:
                continue
            if self.records.read(project).state == "queued":
                self.send(project)

    def run(self, project: str) -> Record:
        """Does one training, if it is asked for and nobody does it; what comes of it is in the record.

        Args:
            project: Label Studio's id of the project.
        """
        if self.work is None:
            raise RuntimeError("this process does not train; `ihp trainer` does")
        try:
            with self.records.training(project):
                self._current = project
                record = self._run(project, self.work)
                self._current = None
        except LockedError:
            logger.info("another trainer has the project", extra=fields(project=project))
            return self.records.read(project)
        except OSError as error:
            self._untold[project] = str(error)
            logger.error("what came of the training of %s cannot be written down: %s", project, error)
            return self.records.read(project)
        if record.state in OUTCOMES:
            if self.after:
                self.after(project)
            self._enough.set()
        return record

    def serve(
        self,
        work: Callable[[str, Report], Result],
        after: Callable[[str], object] | None = None,
        jobs: PreannotationJobs | None = None,
        heartbeat: Path | None = None,
    ) -> bool:
        """Does trainings until one has ended, or until SIGTERM or SIGINT.

        Args:
            work: Trains a project, given its name and a function to report stage and share to. It raises
                TemporaryError if another try may go well.
            after: Is called with the project when a training has ended.
            jobs: Are done while no training waits.
            heartbeat: A file that is touched every two seconds while this process is alive.

        Returns:
            Whether a training has ended: the next one is best done by a new process, for the memory that the last one
            took is not given back.
        """
        self.work, self.after, self._jobs, self._heartbeat = work, after, jobs, heartbeat
        # Of a queue that is down, huey would tell twice a second, at length.
        logging.getLogger("huey").setLevel(logging.CRITICAL)
        _ = self.task, jobs and jobs.task  # the consumer must know them
        consumer = OrderlyConsumer(self.transport, self.stop, grace_s=_GRACE_S)
        self._enough = consumer.stop_flag
        Thread(target=self._look_after, name="lost trainings", daemon=True).start()
        consumer.run()
        if self._stopping.is_set() and (project := self._current):
            self.records.change(project, _given_back)
        return not self._stopping.is_set()

    def stop(self) -> None:
        """Ends ``serve``; a training under way gives up at its next report, and begins anew with the next trainer."""
        self._stopping.set()
        if self._jobs:
            self._jobs.stop()

    def _look_after(self) -> None:
        before = ""
        while not self._stopping.wait(_LOOK_EVERY_S):
            try:
                if self._heartbeat:
                    self._heartbeat.touch()
                self.carried()
                self.put_back_lost()
                if self._jobs:
                    self._jobs.put_back_lost()
                trouble = ""
            except Exception as error:
                trouble = str(error) or type(error).__name__
            if trouble != before:  # once, not every time
                logger.log(logging.ERROR if trouble else logging.INFO, "the queue: %s", trouble or "in order again")
            before = trouble

    def _run(self, project: str, work: Callable[[str, Report], Result]) -> Record:
        record = self.records.read(project)
        if record.state != "queued":
            return record
        attempt = record.attempts + 1
        self.records.change(
            project,
            lambda r: replace(
                r, state="running", attempts=attempt, started=now(), stage="begins", share=0.0, version="", left_out=()
            ),
        )
        begun = monotonic()
        logger.info("training begins", extra=fields(project=project, attempt=attempt, reason=record.reason))
        try:
            result = work(project, self._reporter(project))
            outcome, reason, version, left_out = result.outcome, result.reason, result.version, result.left_out
        except InterruptedTraining:
            logger.info("training interrupted; it begins anew with the next trainer", extra=fields(project=project))
            return self.records.change(project, _given_back)
        except (TemporaryError, OSError) as error:
            if attempt < ATTEMPTS:
                delay = FIRST_RETRY_S * 4 ** (attempt - 1)
                text = f"attempt {attempt} of {ATTEMPTS} failed: {error}"
                logger.warning("training waits for another try", extra=fields(project=project, reason=text, in_s=delay))
                return self.records.change(
                    project, lambda r: replace(r, state="waiting", reason=text, retry_at=time.time() + delay)
                )
            outcome, reason, version, left_out = "failed", f"after {attempt} attempts: {error}", "", ()
        except TrainingError as error:
            outcome, reason, version, left_out = "failed", str(error), "", ()
        except Exception as error:
            logger.exception("training failed unexpectedly")
            outcome, reason, version, left_out = "failed", f"unexpected: {type(error).__name__}: {error}", "", ()
        seconds = monotonic() - begun
        level = logging.ERROR if outcome == "failed" else logging.INFO
        line = fields(project=project, outcome=outcome, version=version, reason=reason, seconds=seconds)
        logger.log(level, "training ended", extra=line)
        return self.records.change(
            project, lambda r: replace(_ended(r, outcome, reason, seconds), version=version, left_out=left_out)
        )

    def _reporter(self, project: str) -> Report:
        written = logged = float("-inf")
        last = ""

        def report(stage: str, share: float) -> None:
            nonlocal written, logged, last
            if self._stopping.is_set():
                raise InterruptedTraining
            if stage == last and monotonic() - written < _REPORT_EVERY_S:
                return
            if stage != last or monotonic() - logged >= _LOG_EVERY_S:
                logger.info("training: %s", stage, extra=fields(project=project, percent=100 * share))
                logged = monotonic()
            written, last = monotonic(), stage
            try:
                self.records.change(project, lambda r: replace(r, stage=stage, share=share))
            except OSError as error:  # progress is no reason to stop
                logger.warning("progress cannot be written: %s", error)

        return report

    def send(self, project: str) -> None:
        """Puts a job into the queue; if that fails, the record brings it back later."""
        try:
            self.task(project)
        except Exception as error:
            logger.error("the queue does not take the training of %s, it is tried again: %s", project, error)

    def carried(self) -> int:
        """Returns how many jobs the queue carries."""
        return int(self.transport.pending_count())

    @cached_property
    def task(self) -> Callable[[str], Any]:
        """Puts the job of a project into the queue."""
        task: Callable[[str], Any] = self.transport.task(name="train", priority=FIRST)(self.run)
        return task

    @cached_property
    def transport(self) -> Huey:
        """What carries the jobs; opened at its first use."""
        return open_queue(self._settings.queue_url, self.records.folder)


def _ended(record: Record, outcome: str, reason: str, seconds: float) -> Record:
    outcomes = {name: record.outcomes.get(name, 0) for name in OUTCOMES}
    outcomes[outcome] += 1
    return replace(
        record,
        state=outcome,
        reason=reason,
        ended=now(),
        stage="",
        share=0.0,
        outcomes=outcomes,
        seconds=seconds,
        total_seconds=record.total_seconds + seconds,
    )


def _given_back(record: Record) -> Record:
    """What becomes of a training whose trainer is told to stop: this attempt does not count."""
    if record.state != "running":
        return record
    return replace(record, state="queued", attempts=record.attempts - 1, stage="", share=0.0)


def _put_back(record: Record, why: str) -> Record:
    """What becomes of a training that nobody does any more: its trainer is gone, or could not write down ``why``."""
    if record.state != "running":
        return record
    if record.attempts < ATTEMPTS:
        reason = f"attempt {record.attempts} of {ATTEMPTS} failed: {why or 'the trainer died in the middle'}"
        return replace(record, state="queued", reason=reason, stage="", share=0.0)
    reason = f"after {record.attempts} attempts: {why}"
    if not why:
        reason = (
            f"the trainer died {record.attempts} times in the middle, the last time while it {record.stage!r}: "
            "is there enough memory?"
        )
    return _ended(record, "failed", reason, 0.0)


def _age_s(record: Record) -> float:
    """Seconds since it was asked for. Infinite where that cannot be, as after the clock was put back."""
    try:
        age = time.time() - datetime.fromisoformat(record.asked).timestamp()
    except ValueError:
        return float("inf")
    return age if age >= 0 else float("inf")


def _longest_pause_s() -> float:
    """No training waits longer: if it seems so, the clock was put back."""
    return FIRST_RETRY_S * 4.0 ** (ATTEMPTS - 2)
