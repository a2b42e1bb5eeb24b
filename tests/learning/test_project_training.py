from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_label_studio import LEGACY
from fake_project import PROJECT, FakeLearner, FakeProject, box, region
from fakes import DiscModel
from tiny_weights import ship

from ihp_backend.data.sample import DataError
from ihp_backend.label_studio.connections import Connection
from ihp_backend.learning.queue import Report
from ihp_backend.learning.records import Record
from ihp_backend.learning.registry import BASE
from ihp_backend.network.weights_folder import version_of
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings
from ihp_backend.training.run_folder import TrainerError, WriteError

FIRST, SECOND = (f"{version_of('lip')}+p1.{number}" for number in ("001", "002"))

FACE = region("Face", box(slice(0, 20), slice(0, 30)))


@pytest.fixture
def project() -> Iterator[FakeProject]:
    with FakeProject() as fake:
        for number in range(1, 11):
            fake.add(number, FACE)
        yield fake


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> FakeLearner:
    monkeypatch.setattr("ihp_backend.learning.queue.FIRST_RETRY_S", 0.0)
    return FakeLearner().install(monkeypatch)


def runtime_of(tmp_path: Path, project: FakeProject, **environment: str) -> Runtime:
    settings = Settings.from_environment({"IHP_DATA_DIR": str(tmp_path / "data"), **environment})
    runtime = Runtime(settings, DiscModel, load_version=lambda folder: DiscModel(folder.name))
    runtime.connections.remember(PROJECT, Connection(project.url, LEGACY))
    runtime.trainings.work = runtime.training()
    return runtime


@pytest.fixture
def runtime(tmp_path: Path, project: FakeProject) -> Runtime:
    return runtime_of(tmp_path, project)


def train(runtime: Runtime) -> Record:
    runtime.trainings.ask(PROJECT, "a test")
    return runtime.trainings.run(PROJECT)


def test_a_better_version_is_promoted(runtime: Runtime, learner: FakeLearner, project: FakeProject) -> None:
    record = train(runtime)
    assert (record.state, record.version, record.reason) == ("promoted", FIRST, "fewer clicks")
    assert runtime.registry.current(PROJECT) == FIRST
    assert runtime.predictor(PROJECT).version == FIRST
    status = runtime.registry.get(PROJECT, FIRST).status
    assert (status.parent, status.before, status.after) == (BASE, {"miou": 0.5}, {"miou": 0.6})
    assert sum(status.photos.values()) == 10
    (call,) = learner.calls
    assert len(call["train"]) + len(call["held_back"]) == 10
    assert 0 < len(call["held_back"]) < 10
    assert dict(call["train"].labels) == {"Face": ("face",), "Trousers": ("pants",), "Tattoo": ()}
    sample = call["train"][0]
    assert np.array_equal(sample.labels == 1, box(slice(0, 20), slice(0, 30)))
    assert (call["start"], call["base"].name) == (call["base"], "lip")
    second = train(runtime)
    assert second.version == SECOND
    assert learner.calls[1]["start"].name == FIRST, "it goes on from what is served"
    assert learner.calls[1]["base"].name == "lip"
    assert runtime.registry.get(PROJECT, second.version).status.parent == FIRST
    assert project.writes() == [], "nothing is written to Label Studio"


def test_a_training_starts_from_its_own_label_set_and_leaves_the_others(
    tmp_path: Path, project: FakeProject, learner: FakeLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(monkeypatch, tmp_path / "shipped", ["lip", "helen"])
    runtime = runtime_of(tmp_path, project)
    assert train(runtime).version == "lip-1+p1.001"
    body = project.project["label_config"]
    attribute = '<KeyPointLabels ihp_schema="helen"'
    project.project["label_config"] = body.replace("<KeyPointLabels", attribute)
    assert project.project["label_config"] != body
    record = train(runtime)
    assert (record.state, record.version) == ("promoted", "helen-1+p1.002")
    call = learner.calls[1]
    assert (call["start"].name, call["base"].name) == ("helen", "helen"), "not from what LIP's has learnt"
    assert call["train"].labels["Face"] == ("face-skin",)
    assert runtime.registry.get(PROJECT, record.version).status.schema == "helen"
    assert runtime.registry.current(PROJECT, "lip") == "lip-1+p1.001"
    project.project["label_config"] = body
    assert train(runtime).version == "lip-1+p1.003"
    assert learner.calls[2]["start"].name == "lip-1+p1.001", "it goes on where LIP was left"
    assert runtime.registry.current(PROJECT, "helen") == "helen-1+p1.002"


def test_a_worse_version_is_kept_as_rejected(runtime: Runtime, learner: FakeLearner) -> None:
    learner.is_better = False
    record = train(runtime)
    assert (record.state, record.version, record.reason) == ("rejected", FIRST, "more clicks")
    assert runtime.registry.current(PROJECT) == BASE
    assert runtime.predictor(PROJECT).version == "discs-1"


def test_a_rollback_while_it_learns_has_the_last_word(runtime: Runtime, learner: FakeLearner) -> None:
    train(runtime)
    train(runtime)
    learner.after_writing = lambda: runtime.registry.rollback(PROJECT)
    record = train(runtime)
    assert (record.state, runtime.registry.current(PROJECT)) == ("rejected", FIRST)
    assert record.reason == f"{FIRST} was made current meanwhile, instead of {SECOND}; fewer clicks"
    assert runtime.registry.get(PROJECT, record.version).status.state == "rejected"
    learner.after_writing = lambda: runtime.registry.promote(PROJECT, BASE)
    assert train(runtime).state == "rejected"
    assert runtime.registry.current(PROJECT) == BASE


def test_settings_reach_the_learner(
    tmp_path: Path, project: FakeProject, learner: FakeLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = runtime_of(tmp_path, project, IHP_TRAIN_STEPS="7", IHP_BASE_DATA=str(tmp_path), IHP_DEVICE="cpu")
    assert train(runtime).state == "promoted"
    (call,) = learner.calls
    assert (call["config"].steps, call["base_data"], call["device"]) == (7, tmp_path, "cpu")
    assert train(runtime_of(tmp_path, project)).state == "promoted"
    assert learner.calls[1]["config"].steps == 10


def test_a_training_that_somebody_asked_for_is_thorough(runtime: Runtime, learner: FakeLearner) -> None:
    runtime.trainings.ask(PROJECT, "5 new annotations")
    runtime.trainings.ask(PROJECT, "a person", thorough=True)
    runtime.trainings.run(PROJECT)
    assert learner.calls[0]["config"].steps == 1000
    assert train(runtime).state == "promoted"
    assert learner.calls[1]["config"].steps == 10, "the next is a quick one again"


def test_photos_are_downloaded_once(runtime: Runtime, learner: FakeLearner, project: FakeProject) -> None:
    train(runtime)
    train(runtime)
    photos = [path for path in project.paths() if path.startswith("/data/upload")]
    assert sorted(photos) == sorted(set(photos))


def test_old_weights_are_deleted(tmp_path: Path, project: FakeProject, learner: FakeLearner) -> None:
    runtime = runtime_of(tmp_path, project, IHP_KEPT_VERSIONS="2")
    for _ in range(4):
        train(runtime)
    assert [v.has_weights for v in runtime.registry.versions(PROJECT)] == [False, False, True, True]


def test_a_photo_that_is_gone_and_a_mask_of_another_size_are_left_out(
    runtime: Runtime, learner: FakeLearner, project: FakeProject
) -> None:
    del project.files["/data/upload/1/photo-3.png"]
    project.add(11, region("Face", box(slice(0, 9), slice(0, 9), 30, 30)))
    record = train(runtime)
    assert record.state == "promoted"
    assert len(record.left_out) == 2
    assert "task 3: the image '/data/upload/1/photo-3.png' cannot be had" in record.left_out[0].replace(project.url, "")
    assert "404" in record.left_out[0]
    assert "task 11: a mask is for a photo of 30x30" in record.left_out[1]
    assert runtime.registry.get(PROJECT, record.version).status.photos["left out"] == 2


@pytest.mark.parametrize("left", [0, 1])
def test_too_few_photos_are_told(runtime: Runtime, learner: FakeLearner, project: FakeProject, left: int) -> None:
    for number in range(1, 11 - left):
        project.tasks.pop(number)
    project.add(20, region("Face", box(slice(0, 9), slice(0, 9), 30, 30)))
    record = train(runtime)
    assert record.state == "failed"
    assert f"two annotated photos are needed at least; there are {left} (1 were left out: task 20" in record.reason
    assert learner.calls == []


@pytest.mark.parametrize("status", [500, 503])
def test_a_photo_that_makes_label_studio_fail_is_left_out(
    runtime: Runtime, learner: FakeLearner, project: FakeProject, status: int
) -> None:
    """Label Studio itself answers 500 for an upload whose file is gone."""
    project.fails["photo-7"] = status
    record = train(runtime)
    assert record.state == "promoted"
    (line,) = record.left_out
    assert line.startswith("task 7: ")
    assert str(status) in line
    project.fails.clear()
    assert train(runtime).left_out == ()


@pytest.mark.parametrize(
    ("parts", "status"),
    [(["/api/projects"], 503), (["/api/tasks"], 500), (["photo-7", "whoami"], 502), (["photo-7", "whoami"], 429)],
)
def test_a_label_studio_that_is_down_in_the_middle_is_asked_again(
    runtime: Runtime, learner: FakeLearner, project: FakeProject, parts: list[str], status: int
) -> None:
    project.fails |= dict.fromkeys(parts, status)
    record = train(runtime)
    assert record.state == "waiting"
    assert str(status) in record.reason
    assert runtime.predictor(PROJECT).version == "discs-1"
    project.fails.clear()
    runtime.trainings.put_back_lost()
    record = runtime.trainings.run(PROJECT)
    assert record.state == "promoted"
    assert record.left_out == ()


def test_a_label_studio_that_restarts_while_photos_are_read_is_asked_again(
    runtime: Runtime, learner: FakeLearner, project: FakeProject
) -> None:
    def restart(path: str) -> None:
        if "photo-5" in path or down:
            down.append(path)
            raise ConnectionResetError

    down: list[str] = []
    project.after.append(restart)
    assert train(runtime).state == "waiting"
    project.after.clear()
    runtime.trainings.put_back_lost()
    assert runtime.trainings.run(PROJECT).state == "promoted"


def test_a_token_that_is_revoked_is_told(runtime: Runtime, learner: FakeLearner, project: FakeProject) -> None:
    runtime.connections.remember(PROJECT, Connection(project.url, "f" * 40))
    record = train(runtime)
    assert record.state == "failed"
    assert "401" in record.reason
    assert "Account & Settings" in record.reason
    assert "f" * 40 not in record.reason


def test_a_token_that_is_revoked_in_the_middle_is_told(
    runtime: Runtime, learner: FakeLearner, project: FakeProject
) -> None:
    project.fails |= {"photo-7": 401, "whoami": 401}
    record = train(runtime)
    assert record.state == "failed"
    assert "401" in record.reason
    assert learner.calls == [], "the photos behind it are not gone"


def test_another_project_of_the_same_number_is_not_trained_on(
    runtime: Runtime, learner: FakeLearner, project: FakeProject
) -> None:
    project.project["created_at"] = "2026-11-24T00:00:00Z"
    record = train(runtime)
    assert record.state == "failed"
    assert "this is another Label Studio" in record.reason


def test_a_disk_that_is_full_leaves_no_trace_but_the_reason(
    runtime: Runtime, learner: FakeLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(runtime).version == FIRST

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        learner.before_writing = full
        assert train(runtime).state == "waiting"
        learner.before_writing = lambda: None
        learner.after_writing = lambda: patch.setattr(os, "rename", full)
        runtime.trainings.put_back_lost()
        record = runtime.trainings.run(PROJECT)
    assert record.state == "waiting"
    assert "No space left" in record.reason
    assert [version.name for version in runtime.registry.versions(PROJECT)] == [FIRST]
    assert runtime.predictor(PROJECT).version == FIRST
    assert not list((runtime.registry.folder / PROJECT).glob(".draft-*"))
    learner.after_writing = lambda: None
    runtime.trainings.put_back_lost()
    assert runtime.trainings.run(PROJECT).state == "promoted"


def test_a_learner_that_cannot_write_tries_again(runtime: Runtime, learner: FakeLearner) -> None:
    def full() -> None:
        raise WriteError("last.pt.part cannot be written (No space left on device)")

    learner.before_writing = full
    record = train(runtime)
    assert (record.state, record.attempts) == ("waiting", 1)
    assert "No space left" in record.reason
    learner.before_writing = lambda: None
    runtime.trainings.put_back_lost()
    assert runtime.trainings.run(PROJECT).state == "promoted"


def test_a_learner_that_breaks_is_a_failed_training(
    runtime: Runtime, learner: FakeLearner, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("out of memory")

    learner.before_writing = broken
    record = train(runtime)
    assert (record.state, record.reason) == ("failed", "unexpected: RuntimeError: out of memory")
    assert "Traceback" in caplog.text
    assert runtime.registry.versions(PROJECT) == []


@pytest.mark.parametrize("error", [TrainerError("the loss is not a number"), DataError("no split 'val'")])
def test_a_learner_that_says_why_is_quoted(runtime: Runtime, learner: FakeLearner, error: Exception) -> None:
    def refuse() -> None:
        raise error

    learner.before_writing = refuse
    record = train(runtime)
    assert (record.state, record.reason) == ("failed", str(error))


def test_a_learner_that_leaves_nothing_is_a_failed_training(runtime: Runtime, learner: FakeLearner) -> None:
    learner.is_better = False
    learner.leaves_nothing = True
    record = train(runtime)
    assert (record.state, record.reason, record.version) == ("failed", "more clicks", "")


def test_a_label_config_without_what_is_needed_is_told(
    runtime: Runtime, learner: FakeLearner, project: FakeProject
) -> None:
    project.project["label_config"] = '<View><Image name="i" value="$image"/></View>'
    record = train(runtime)
    assert record.state == "failed"
    assert "KeyPointLabels" in record.reason
    assert "\n" not in record.reason


def test_an_address_that_a_stranger_told_is_not_asked_if_private(
    tmp_path: Path, project: FakeProject, learner: FakeLearner
) -> None:
    runtime = runtime_of(tmp_path, project, IHP_HOST="0.0.0.0", IHP_ALLOW_ANONYMOUS="true")
    record = train(runtime)
    assert record.state == "failed"
    assert "private address" in record.reason
    assert project.requests == []


def test_an_unknown_address_is_told(tmp_path: Path, learner: FakeLearner) -> None:
    runtime = Runtime(Settings(data_dir=tmp_path), DiscModel)
    runtime.trainings.work = runtime.training()
    record = train(runtime)
    assert record.state == "failed"
    assert "IHP_LABEL_STUDIO_URL" in record.reason


def test_a_label_that_is_renamed_added_or_removed_keeps_what_fits(
    runtime: Runtime, learner: FakeLearner, project: FakeProject
) -> None:
    train(runtime)
    config = project.project["label_config"].replace("Face", "Visage").replace("Tattoo", "Scar")
    project.project["label_config"] = config.replace('"Trousers"/>', '"Trousers"/><Label value="Hat"/>')
    project.add(30, region("Trousers", box(slice(0, 9), slice(0, 9))))
    project.add(31, region("Trousers", box(slice(0, 9), slice(0, 9))))
    record = train(runtime)
    assert record.state == "promoted"
    labels = learner.calls[1]["train"].labels
    assert list(labels) == ["Visage", "Trousers", "Hat", "Scar"]
    assert labels["Trousers"] == ("pants",)
    assert len(record.left_out) == 10, "their masks are of a label that is gone"


def test_progress_is_told(runtime: Runtime, learner: FakeLearner, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    seen: list[str] = []
    work = runtime.trainings.work
    assert work

    def watched(project: str, report: Report) -> Any:
        def both(stage: str, share: float) -> None:
            seen.append(stage)
            assert 0 <= share <= 1
            report(stage, share)

        return work(project, both)

    runtime.trainings.work = watched
    train(runtime)
    assert list(dict.fromkeys(seen)) == ["asks Label Studio", "reads annotations", "learns", "keeps the version"]
    assert [r for r in caplog.records if r.getMessage() == "training: reads annotations"]
