"""``ihp trainer``: does the trainings that projects ask for."""

from __future__ import annotations

import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from threading import Event, Thread

import click

from ihp_backend import logs
from ihp_backend.settings import Settings

_NICE = 10


@click.command()
@click.option("--parent", type=int, hidden=True, help="Stop when this process is not the parent any more.")
@click.option(
    "--heartbeat",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file to touch every two seconds: who watches the trainer looks how old it is.",
)
def trainer(parent: int | None, heartbeat: Path | None) -> None:
    """Does the trainings that projects ask for, one after the other, until Ctrl+C or SIGTERM.

    While no training waits, it does the jobs of `ihp preannotate --workers queue`. Any number of trainers may run.

    `ihp serve` starts one beside the server. On another machine, such as one with a GPU, start it by hand, with
    IHP_DATA_DIR on a folder that both share and IHP_QUEUE_URL on a Redis that both reach; the server then wants
    IHP_TRAINER=false.

    A training that is interrupted, even by SIGKILL, begins anew with the next trainer.
    """
    try:
        settings = Settings.from_environment()
        settings.make_data_dir()
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    logs.configure(settings.log_level)
    from ihp_backend.serving.preannotation import do_job
    from ihp_backend.serving.runtime import Runtime

    os.nice(max(0, _NICE - os.nice(0)))  # whoever clicks goes first
    os.environ["TQDM_DISABLE"] = "1"  # the log tells the progress
    if parent is not None:
        Thread(target=_follow, args=(parent,), name="parent", daemon=True).start()
    runtime = Runtime(settings)
    logging.getLogger(__name__).info("the trainer waits for work", extra=logs.fields(data_dir=settings.data_dir))
    runtime.preannotations.work = partial(do_job, runtime)
    has_trained = runtime.trainings.serve(
        runtime.training(), after=runtime.triggers.ask_if_due, jobs=runtime.preannotations, heartbeat=heartbeat
    )
    logging.shutdown()
    if has_trained:  # anew, under the same process id: the memory of a training is not given back otherwise
        os.execv(sys.executable, [sys.executable, "-m", "ihp_backend", *sys.argv[1:]])
    os._exit(0)  # a training that did not end in time would hold the exit up


def _follow(parent: int) -> None:
    """Stops this process when its parent is gone, even by SIGKILL."""
    pause = Event()
    while os.getppid() == parent:
        pause.wait(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
