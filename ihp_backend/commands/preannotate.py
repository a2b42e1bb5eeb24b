"""``ihp preannotate``: predictions for the tasks that nobody has annotated."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import click
from tqdm import tqdm

from ihp_backend import logs
from ihp_backend.commands.project_access import NUMBERS_A_PAGE, access_to, of_project, settings_with
from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.learning.preannotation_jobs import Counts, Job, PreannotationJobs, Run
from ihp_backend.serving.preannotation import Preannotation
from ihp_backend.serving.runtime import Runtime

NICE = 10
_BATCHES_A_JOB = 8
_LOOK_EVERY_S = 0.5
_PUT_BACK_EVERY_S = 2.0
UNTAKEN_S = 20.0
"""So long may jobs lie there before it is said that nobody takes them."""
_TOLD = 5


@click.command()
@of_project
@click.option("--batch", default=8, show_default=True, type=click.IntRange(1), help="Tasks predicted and sent at once.")
@click.option(
    "--workers",
    type=click.Choice(["here", "queue"]),
    default="here",
    show_default=True,
    help="Who predicts: this process, or any number of `ihp trainer` that share folder and queue.",
)
@click.option("--detach", is_flag=True, help="With --workers queue: end when the jobs are in the queue.")
def preannotate(number: int, url: str | None, token: str | None, batch: int, workers: str, detach: bool) -> None:
    """Predicts all tasks of a project that have no annotation, with the version that the project is served.

    Predictions of older versions are replaced; those of other models, and annotations, are not touched. Run it again
    after a stop: what is done is passed over. Sort by prediction score in Label Studio to see what teaches most first.

    With --workers queue the tasks are cut into jobs for trainers, on this machine or others. A job whose worker dies is
    done by another; a stop of this command stops no worker, and the same command shows the bar again.

    \b
    ihp preannotate --project 3
    ihp preannotate --project 3 --workers queue
    """
    if detach and workers != "queue":
        raise click.UsageError("--detach needs --workers queue")
    try:
        settings = settings_with(url, token)
        logs.configure("WARNING")
        os.nice(NICE)  # whoever clicks goes first
        runtime = Runtime(settings)
        _, client = access_to(runtime.connection_of_number(number))
        work = Preannotation(runtime, client, number)
        if work.note:
            click.echo(f"warning: {work.note}", err=True)
        click.echo(f"project {number}: predictions of {work.version}, of the label set {work.schema}")
        if workers == "here":
            counts = _predict_all(work, batch)
        else:
            run = _begin(runtime.preannotations, work, batch)
            if detach:
                click.echo(f"{run.tasks} tasks are in the queue")
                return
            counts = _follow(runtime.preannotations, work, run)
    except (LabelStudioError, ValueError, RuntimeError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"{counts.made} tasks predicted, {counts.passed} had predictions of {work.version}, "
        f"{counts.empty} without a mask"
    )


def _predict_all(work: Preannotation, batch: int) -> Counts:
    project = work.project
    total = int(project.get("task_number") or 0) - int(project.get("num_tasks_with_annotations") or 0)
    counts = Counts()
    tasks = tqdm(work.client.select_tasks(work.number, annotated=False), total=max(0, total), unit="task")
    for some in _batches(iter(tasks), batch):
        counts += work.predict(some)
    return counts


def _batches(tasks: Iterator[dict[str, Any]], size: int) -> Iterator[Sequence[dict[str, Any]]]:
    while batch := list(islice(tasks, size)):
        yield batch


def _begin(jobs: PreannotationJobs, work: Preannotation, batch: int) -> Run:
    if work.key is None:
        raise ValueError(f"Label Studio does not tell when project {work.number} was made: it cannot be told apart")

    def tasks() -> Iterator[int]:
        listed = work.client.select_tasks(work.number, annotated=False, page_size=NUMBERS_A_PAGE, masks=False)
        return (int(task["id"]) for task in listed)

    return jobs.begin(work.key, work.number, work.version, tasks, batch=batch, size=batch * _BATCHES_A_JOB)


def _follow(jobs: PreannotationJobs, work: Preannotation, run: Run) -> Counts:
    """Shows a bar until all jobs are done, and puts in what the queue lost."""
    assert work.key
    done: dict[str, Job] = {}
    taken = put_back = time.monotonic()
    is_told = False
    with tqdm(total=run.tasks, unit="task") as bar:
        while True:
            progress = jobs.progress(work.key, run, done)
            bar.update(progress.tasks - bar.n)
            if not progress.left:
                break
            now = time.monotonic()
            if progress.worked_on:
                taken = now
            elif now - taken > UNTAKEN_S and not is_told:
                is_told = True
                tqdm.write("nobody takes the jobs: is an `ihp trainer` running, with this IHP_DATA_DIR and queue?")
            if now - put_back > _PUT_BACK_EVERY_S:
                put_back = now
                try:
                    jobs.put_back_lost()
                except Exception as error:
                    tqdm.write(f"the queue cannot be reached: {error}")
            time.sleep(_LOOK_EVERY_S)
    if progress.failures:
        for reason in sorted(set(progress.failures))[:_TOLD]:
            click.echo(f"given up: {reason}", err=True)
        raise RuntimeError(f"{len(progress.failures)} jobs were given up; run it again to try their tasks")
    if progress.tasks < run.tasks:
        raise RuntimeError("another pre-annotation of the project has taken the place of this one")
    return progress.counts
