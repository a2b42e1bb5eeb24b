"""A job of pre-annotation in a trainer: only its tasks, nothing twice, and a reason where it cannot be done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_label_studio import LEGACY
from fake_project import FakeProject, box, region
from fakes import DiscModel

from ihp_backend.learning.preannotation_jobs import Counts, Job, Run
from ihp_backend.serving.preannotation import do_job
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings

RUN = Run("18", 1, "discs-1", 9, 2)


@pytest.fixture
def project() -> Iterator[FakeProject]:
    with FakeProject() as fake:
        for number in range(1, 10):
            fake.add(number, *([region("Face", box(slice(0, 20), slice(0, 30)))] if number == 4 else []))
        yield fake


def do(tmp_path: Path, project: FakeProject, job: Job, sent: list[int] | None = None) -> Counts:
    settings = Settings(data_dir=tmp_path, label_studio_url=project.url, label_studio_token=LEGACY)
    runtime = Runtime(settings, DiscModel, lambda: "discs-1", lambda folder: DiscModel(folder.name))
    return do_job(runtime, RUN, job, (sent if sent is not None else []).append)


def numbers(project: FakeProject) -> dict[int, int]:
    return {number: len(task["predictions"]) for number, task in project.tasks.items() if task["predictions"]}


def test_a_job_predicts_its_tasks_and_no_others(tmp_path: Path, project: FakeProject) -> None:
    sent: list[int] = []
    assert do(tmp_path, project, Job((2, 4, 6, 8), begun=1), sent) == Counts(made=3, passed=1)
    assert numbers(project) == {2: 1, 6: 1, 8: 1}
    assert sent == [2, 1]
    assert do(tmp_path, project, Job((2, 4, 6, 8), begun=1)) == Counts(passed=4)
    assert numbers(project) == {2: 1, 6: 1, 8: 1}


@pytest.mark.parametrize(("begun", "left"), [(1, 2), (2, 1)])
def test_what_a_dead_worker_had_sent_is_not_there_twice(
    begun: int, left: int, tmp_path: Path, project: FakeProject
) -> None:
    """It may be added after the next worker has looked. A job that nobody began before is not read again."""

    def late(path: str) -> None:
        if "import/predictions" in path and not project.tasks[2]["predictions"]:
            entry: dict[str, Any] = {"model_version": "discs-1", "result": [{}], "score": 0.5}
            project.tasks[2]["predictions"] += [{"id": 5000, **entry}, {"id": 500, **entry, "model_version": "other"}]

    project.after.append(late)
    do(tmp_path, project, Job((2, 3), begun=begun))
    of_ours = [p["id"] for p in project.tasks[2]["predictions"] if p["model_version"] == "discs-1"]
    assert len(of_ours) == left
    assert min(of_ours) < 5000
    assert 500 in [p["id"] for p in project.tasks[2]["predictions"]]
    assert numbers(project)[3] == 1


def test_a_trainer_that_does_not_know_label_studio_says_so(tmp_path: Path) -> None:
    runtime = Runtime(Settings(data_dir=tmp_path), DiscModel, lambda: "discs-1")
    with pytest.raises(RuntimeError, match="not known to this trainer: IHP_LABEL_STUDIO_URL"):
        do_job(runtime, RUN, Job((1,), begun=1), lambda count: None)
