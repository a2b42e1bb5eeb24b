from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_label_studio import LEGACY
from fake_project import PROJECT, FakeProject, box, region
from fakes import DiscModel
from server_process import ENVIRONMENT
from versions import add
from waiting import eventually

from ihp_backend.cli import main
from ihp_backend.commands import preannotate as command
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings

FACE = region("Face", box(slice(0, 20), slice(0, 30)))


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProject]:
    def runtime(settings: Any) -> Runtime:
        return Runtime(settings, DiscModel, lambda: "discs-1", lambda folder: DiscModel(folder.name))

    monkeypatch.setattr(command, "Runtime", runtime)
    monkeypatch.setattr(command, "NICE", 0)
    with FakeProject() as fake:
        for number in range(1, 8):
            fake.add(number, *([FACE] if number in (2, 5) else []))
        fake.project |= {"task_number": 7, "num_tasks_with_annotations": 2}
        yield fake


def run(tmp_path: Path, project: FakeProject, *options: str) -> Result:
    environ = {"IHP_DATA_DIR": str(tmp_path), "IHP_LABEL_STUDIO_URL": project.url, "IHP_LABEL_STUDIO_TOKEN": LEGACY}
    return CliRunner(env=environ).invoke(main, ["preannotate", "--project", "1", "--batch", "2", *options])


def versions(project: FakeProject) -> dict[int, list[str]]:
    return {number: [p["model_version"] for p in task["predictions"]] for number, task in project.tasks.items()}


def registry_of(tmp_path: Path) -> Any:
    return Runtime(Settings(data_dir=tmp_path)).registry


def test_tasks_without_annotation_get_predictions_and_no_others(tmp_path: Path, project: FakeProject) -> None:
    done = run(tmp_path, project)
    assert done.exit_code == 0, done.output
    assert "5 tasks predicted, 0 had predictions of discs-1" in done.output
    assert versions(project) == {number: ([] if number in (2, 5) else ["discs-1"]) for number in range(1, 8)}
    (prediction,) = project.tasks[1]["predictions"]
    assert 0 < prediction["score"] <= 1
    assert [r["value"]["brushlabels"] for r in prediction["result"]] == [["Face"], ["Trousers"], ["Tattoo"]]
    again = run(tmp_path, project)
    assert "0 tasks predicted, 5 had predictions" in again.output
    assert all("annotations" not in write for write in project.writes())


def test_a_stop_in_the_middle_is_taken_up(tmp_path: Path, project: FakeProject) -> None:
    imports = []

    def stop(path: str) -> None:
        if "import/predictions" in path:
            imports.append(path)
        if len(imports) == 2:
            project.fails["import/predictions"] = 503

    project.after.append(stop)
    stopped = run(tmp_path, project)
    assert stopped.exit_code == 1
    assert "503" in stopped.output
    assert sum(map(len, versions(project).values())) == 2
    project.after.clear()
    project.fails.clear()
    assert "3 tasks predicted, 2 had predictions" in run(tmp_path, project).output


def test_a_stop_before_old_predictions_are_deleted_is_taken_up(tmp_path: Path, project: FakeProject) -> None:
    run(tmp_path, project)
    first = add(registry_of(tmp_path), PROJECT)
    project.fails["/api/predictions/"] = 503
    assert run(tmp_path, project).exit_code == 1
    assert versions(project)[1] == ["discs-1", first]
    project.fails.clear()
    assert run(tmp_path, project).exit_code == 0
    assert [versions(project)[number] for number in (1, 3, 7)] == [[first]] * 3


def test_after_a_promotion_older_predictions_of_ours_are_replaced(tmp_path: Path, project: FakeProject) -> None:
    project.tasks[3]["predictions"] = [
        {"id": 1, "model_version": "somebody's model", "result": [], "score": 1.0},
        {"id": 2, "model_version": "lip-0+p1.017", "result": [], "score": 1.0},
    ]
    run(tmp_path, project)
    assert versions(project)[3] == ["somebody's model", "discs-1"]
    first = add(registry_of(tmp_path), PROJECT)
    assert run(tmp_path, project).exit_code == 0
    assert versions(project)[1] == [first]
    assert versions(project)[3] == ["somebody's model", first]
    assert versions(project)[2] == []


def test_a_photo_that_is_gone_is_counted_and_the_rest_goes_on(tmp_path: Path, project: FakeProject) -> None:
    del project.files["/data/upload/1/photo-3.png"]
    done = run(tmp_path, project)
    assert done.exit_code == 0
    assert "4 tasks predicted" in done.output
    assert "1 without a mask" in done.output


def test_without_an_address_it_says_what_to_give(tmp_path: Path, project: FakeProject) -> None:
    environ = {"IHP_DATA_DIR": str(tmp_path)}
    refused = CliRunner(env=environ).invoke(main, ["preannotate", "--project", "1"])
    assert refused.exit_code == 2
    assert "--url" in refused.output
    options = ["--url", project.url, "--token", LEGACY]
    assert CliRunner(env=environ).invoke(main, ["preannotate", "--project", "1", *options]).exit_code == 0
    wrong = CliRunner(env=environ).invoke(main, ["preannotate", "--project", "1", *options[:2], "--token", "f" * 40])
    assert wrong.exit_code == 1
    assert "401" in wrong.output


# Many workers

WORKER = Path(__file__).parents[1] / "support/job_worker.py"


def start_worker(tmp_path: Path, project: FakeProject) -> subprocess.Popen[bytes]:
    environ = {"IHP_DATA_DIR": str(tmp_path), "IHP_LABEL_STUDIO_URL": project.url, "IHP_LABEL_STUDIO_TOKEN": LEGACY}
    with (tmp_path / "workers.log").open("a") as log:
        return subprocess.Popen([sys.executable, str(WORKER)], env=ENVIRONMENT | environ, stdout=log, stderr=log)


@contextmanager
def workers(tmp_path: Path, project: FakeProject, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    running = [start_worker(tmp_path, project) for _ in range(count)]
    try:
        yield running
    finally:
        for worker in running:
            worker.kill()
            worker.wait()


def is_worked_on(tmp_path: Path) -> bool:
    return any((tmp_path / "preannotations" / PROJECT / "locks").glob("*"))


def test_two_workers_that_are_killed_at_random_miss_nothing_and_do_nothing_twice(
    tmp_path: Path, project: FakeProject
) -> None:
    for number in range(8, 64):
        project.add(number, *([FACE] if number % 9 == 0 else []))
    # Label Studio adds predictions later than they were sent: whoever sent them may be dead by then.
    project.after.append(lambda path: time.sleep(0.3 if "import/predictions" in path else 0.0))
    results: list[Result] = []
    command = Thread(target=lambda: results.append(run(tmp_path, project, "--workers", "queue")))
    dice, kills = random.Random(18), 0
    with workers(tmp_path, project, 2) as running:
        command.start()
        while kills < 5 and command.is_alive():
            eventually(lambda: is_worked_on(tmp_path) or not command.is_alive(), 60)
            time.sleep(dice.uniform(0.0, 1.0))
            victim = dice.randrange(2)
            if command.is_alive():
                running[victim].kill()
                running[victim].wait()
                running[victim] = start_worker(tmp_path, project)
                kills += 1
        command.join(120)
    (done,) = results
    assert done.exit_code == 0, done.output
    assert kills >= 3
    open_tasks = [number for number in range(1, 64) if number not in (2, 5) and (number < 8 or number % 9)]
    assert versions(project) == {n: ["discs-1"] if n in open_tasks else [] for n in range(1, 64)}
    assert "tasks predicted" in done.output
    assert "0 tasks predicted" in run(tmp_path, project).output


def test_jobs_may_be_left_to_the_workers_and_looked_at_later(tmp_path: Path, project: FakeProject) -> None:
    detached = run(tmp_path, project, "--workers", "queue", "--detach")
    assert detached.exit_code == 0, detached.output
    assert "5 tasks are in the queue" in detached.output
    assert not any(versions(project).values())
    with workers(tmp_path, project, 1):
        done = run(tmp_path, project, "--workers", "queue")
        eventually(lambda: (tmp_path / "alive").exists() and time.time() - (tmp_path / "alive").stat().st_mtime < 3, 20)
    assert done.exit_code == 0, done.output
    assert "5 tasks predicted, 0 had predictions of discs-1" in done.output
    assert "--workers queue" in run(tmp_path, project, "--detach").output


def test_what_is_given_up_is_told_and_tried_again(
    tmp_path: Path, project: FakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IHP_DATA_DIR", str(tmp_path))
    run(tmp_path, project, "--workers", "queue", "--detach")
    home = tmp_path / "preannotations" / PROJECT
    (job,) = (home / "open").iterdir()
    job.write_text("{")
    monkeypatch.setattr(command, "UNTAKEN_S", 0.0)
    with workers(tmp_path, project, 1):
        failed = run(tmp_path, project, "--workers", "queue")
        assert failed.exit_code == 1
        assert "given up" in failed.output
        assert "nobody takes the jobs" in failed.output
        again = run(tmp_path, project, "--workers", "queue")
    assert "5 tasks predicted" in again.output
