"""Jobs of pre-annotation: each is done once, whoever dies, whatever the queue loses, and none is tried for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from fakeredis import TcpFakeServer

from ihp_backend.learning.preannotation_jobs import ATTEMPTS, Counts, Job, PreannotationJobs, Run
from ihp_backend.learning.queue import TrainingQueue
from ihp_backend.settings import Settings

P = "1.1795392500"
Sent = Callable[[int], None]


def queue_of(tmp_path: Path, **environment: str) -> TrainingQueue:
    return TrainingQueue(Settings.from_environment({"IHP_DATA_DIR": str(tmp_path), **environment}))


def jobs_of(tmp_path: Path, queue: TrainingQueue | None = None) -> PreannotationJobs:
    trainings = queue or queue_of(tmp_path)
    return PreannotationJobs(tmp_path / "preannotations", lambda: trainings.transport)


def begin(jobs: PreannotationJobs, tasks: range = range(1, 8), version: str = "lip-4") -> Run:
    return jobs.begin(P, 1, version, lambda: tasks, batch=2, size=3)


def names(jobs: PreannotationJobs, state: str = "open") -> list[str]:
    folder = jobs.folder / P / state
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def do_all(jobs: PreannotationJobs) -> None:
    for name in names(jobs):
        jobs.run(P, name)


def test_tasks_are_cut_into_jobs_that_are_done_once(tmp_path: Path) -> None:
    queue = queue_of(tmp_path)
    jobs, done = jobs_of(tmp_path, queue), []

    def work(run: Run, job: Job, sent: Sent) -> Counts:
        assert (run.number, run.batch, job.begun) == (1, 2, 1)
        done.append(job.tasks)
        return Counts(len(job.tasks) - 1, 0, 1)

    jobs.work = work
    run = begin(jobs)
    assert run.tasks == 7
    assert queue.carried() == 3
    left = names(jobs)
    jobs.run(P, left[0])
    seen: dict[str, Job] = {}
    progress = jobs.progress(P, run, seen)
    assert (progress.counts, progress.tasks, progress.left) == (Counts(2, 0, 1), 3, 2)
    for name in left * 2:
        jobs.run(P, name)
    assert done == [(1, 2, 3), (4, 5, 6), (7,)]
    progress = jobs.progress(P, run, seen)
    assert (progress.counts, progress.tasks, progress.left) == (Counts(4, 0, 3), 7, 0)
    assert not progress.failures
    assert not progress.worked_on
    assert not names(jobs, "locks")


def test_who_asks_again_gets_the_run_that_is_under_way_and_another_version_a_new_one(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path)
    jobs.work = lambda run, job, sent: Counts(len(job.tasks))
    run = begin(jobs)
    assert begin(jobs, range(1, 20)) == run
    old = names(jobs)
    other = begin(jobs, version="lip-5")
    assert other.name != run.name
    assert not set(old) & set(names(jobs))
    jobs.run(P, old[0])
    assert not names(jobs, "done"), "a job of a run that is gone"
    do_all(jobs)
    assert jobs.progress(P, other, {}).left == 0
    assert begin(jobs, version="lip-5").name != other.name, "one that is done is no run under way"


def test_a_cut_that_is_stopped_leaves_no_run(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path)

    def stopped() -> range:
        raise KeyboardInterrupt

    begin(jobs)
    with pytest.raises(KeyboardInterrupt):
        jobs.begin(P, 1, "lip-5", stopped, batch=2, size=3)
    assert jobs.read(P) is None
    assert begin(jobs).tasks == 7


def test_a_new_run_begins_when_nobody_does_a_job_of_the_old_one(tmp_path: Path) -> None:
    """Two who do the same task would make its prediction twice."""
    jobs, states = jobs_of(tmp_path), []

    def work(run: Run, job: Job, sent: Sent) -> Counts:
        other = jobs_of(tmp_path)
        thread = Thread(target=begin, args=(other,), kwargs={"version": "lip-5"}, daemon=True)
        thread.start()
        thread.join(0.5)
        states.append(thread.is_alive())
        threads.append(thread)
        return Counts(len(job.tasks))

    threads: list[Thread] = []
    jobs.work = work
    begin(jobs)
    jobs.run(P, names(jobs)[0])
    (thread,) = threads
    thread.join(10)
    assert states == [True]
    found = jobs.read(P)
    assert found
    assert found.version == "lip-5"


def test_only_one_does_a_job(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path)

    def work(run: Run, job: Job, sent: Sent) -> Counts:
        other = jobs_of(tmp_path)
        other.work = lambda *_: pytest.fail("done twice")
        other.run(P, name)
        assert jobs.progress(P, run, {}).worked_on
        return Counts(len(job.tasks))

    jobs.work = work
    begin(jobs)
    name = names(jobs)[0]
    jobs.run(P, name)
    assert names(jobs, "done") == [name]


def test_jobs_that_the_queue_lost_are_put_in_again(tmp_path: Path) -> None:
    queue = queue_of(tmp_path)
    jobs = jobs_of(tmp_path, queue)
    jobs.work = lambda run, job, sent: Counts(len(job.tasks))
    begin(jobs)
    jobs.put_back_lost()
    assert queue.carried() == 3, "nothing is lost while the queue carries"
    queue.transport.flush()
    jobs.run(P, names(jobs)[0])
    jobs.put_back_lost()
    assert queue.carried() == 2


def test_a_queue_that_is_down_loses_no_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    down = jobs_of(tmp_path, queue_of(tmp_path, IHP_QUEUE_URL="redis://127.0.0.1:1/0"))
    begin(down)
    assert caplog.text.count("the queue does not take job") == 1, "one is enough to know"
    up = queue_of(tmp_path)
    jobs_of(tmp_path, up).put_back_lost()
    assert up.carried() == 3


def test_a_fault_that_may_pass_is_tried_again_with_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = queue_of(tmp_path)
    jobs = jobs_of(tmp_path, queue)

    def work(run: Run, job: Job, sent: Sent) -> Counts:
        raise OSError("Label Studio cannot be reached")

    jobs.work = work
    run = begin(jobs, range(1, 2))
    queue.transport.flush()
    ahead = [0.0]
    clock = time.time
    monkeypatch.setattr("ihp_backend.learning.preannotation_jobs.time.time", lambda: clock() + ahead[0])
    for attempt in range(1, ATTEMPTS + 1):
        assert jobs.progress(P, run, {}).left == 1
        do_all(jobs)
        if attempt < ATTEMPTS:
            jobs.put_back_lost()
            assert queue.carried() == 0, "it waits"
            do_all(jobs)  # two trainers may have put it in
            ahead[0] += 5.0 * 4 ** (attempt - 1) + 1
            jobs.put_back_lost()
            assert queue.carried() == 1
            queue.transport.flush()
    progress = jobs.progress(P, run, {})
    assert (progress.left, progress.failures) == (0, ("Label Studio cannot be reached",))


def test_what_kills_its_worker_again_and_again_is_given_up_unless_it_comes_on(tmp_path: Path) -> None:
    class KilledError(BaseException):
        pass

    jobs = jobs_of(tmp_path)
    sends = 1

    def work(run: Run, job: Job, sent: Sent) -> Counts:
        sent(sends)
        raise KilledError

    jobs.work = work
    run = begin(jobs, range(1, 2))
    for _ in range(2 * ATTEMPTS):
        with pytest.raises(KilledError):
            do_all(jobs)
    sends = 0
    for _ in range(ATTEMPTS):
        with pytest.raises(KilledError):
            do_all(jobs)
    do_all(jobs)
    progress = jobs.progress(P, run, {})
    assert (progress.left, progress.failures) == (0, ("the worker died 5 times in the middle",))


def test_a_worker_that_is_told_to_stop_leaves_the_rest_to_others(tmp_path: Path) -> None:
    jobs, batches = jobs_of(tmp_path), []

    def work(run: Run, job: Job, sent: Sent) -> Counts:
        for _ in range(2):
            batches.append(job.begun)
            sent(1)
        return Counts(2)

    jobs.work = work
    begin(jobs, range(1, 3))
    jobs.stop()
    do_all(jobs)
    other = jobs_of(tmp_path)
    other.work = work
    do_all(other)
    assert batches == [1, 2, 2]
    assert names(jobs, "done")


def test_a_damaged_job_is_a_failure_not_a_loss(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path)
    jobs.work = lambda *_: pytest.fail("there is nothing to do")
    run = begin(jobs, range(1, 2))
    (jobs.folder / P / "open" / names(jobs)[0]).write_text("{")
    do_all(jobs)
    (failure,) = jobs.progress(P, run, {}).failures
    assert "is not JSON" in failure


@pytest.mark.parametrize("name", ["../../x", "", "a/b", "nothing"])
def test_a_message_that_names_no_job_does_nothing(name: str, tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path)
    jobs.work = lambda *_: pytest.fail("no job")
    begin(jobs)
    jobs.run(P, name)
    jobs.run(name, names(jobs)[0])
    assert len(names(jobs)) == 3


@pytest.mark.parametrize("redis", [False, True])
def test_trainings_do_not_wait_behind_jobs(tmp_path: Path, redis: bool) -> None:
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis") if redis else None
    if server:
        Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"redis://127.0.0.1:{server.server_address[1]}/0" if server else ""
        queue = queue_of(tmp_path, IHP_QUEUE_URL=url)
        begin(jobs_of(tmp_path, queue))
        queue.ask(P, "a test")
        kinds = [queue.transport.dequeue().name for _ in range(4)]
        assert kinds == ["train", *["preannotate"] * 3]
    finally:
        if server:
            server.shutdown()
            server.server_close()
