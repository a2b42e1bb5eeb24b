"""A trainer whose model draws discs: ``job_worker.py`` in a process of its own, to be killed."""

from __future__ import annotations

import logging
from functools import partial

from fakes import DiscModel

from ihp_backend.learning.queue import Report, Result
from ihp_backend.serving.preannotation import do_job
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings


def main() -> None:
    """Does jobs until it is told to stop."""
    logging.basicConfig(level=logging.INFO)
    runtime = Runtime(Settings.from_environment(), DiscModel, lambda: "discs-1", lambda folder: DiscModel(folder.name))
    runtime.preannotations.work = partial(do_job, runtime)

    def train(project: str, report: Report) -> Result:
        raise AssertionError("no training was asked for")

    alive = runtime.settings.data_dir / "alive"
    runtime.trainings.serve(train, jobs=runtime.preannotations, heartbeat=alive)


if __name__ == "__main__":
    main()
