from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from fakes import DiscModel
from versions import P, Q, add
from waiting import eventually

from ihp_backend.learning.registry import BASE, Registry
from ihp_backend.serving.model_pool import LOOK_EVERY_S, ModelPool
from ihp_backend.telemetry import Metrics


class Loader:
    """Makes a model that is called as its folder, and remembers what it made."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.go_on = Event()
        self.go_on.set()
        self.broken: set[str] = set()

    def __call__(self, folder: Path) -> DiscModel:
        self.go_on.wait(10)
        if folder.name in self.broken:
            raise ValueError("no weights in there")
        self.loaded.append(folder.name)
        return DiscModel(folder.name)


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def pool_of(registry: Registry, loader: Loader, most: int = 4) -> ModelPool:
    return ModelPool(registry, loader, most, Metrics())


def answering(pool: ModelPool, project: str = P, schema: str = "lip") -> str:
    model = pool.predictor(project, schema)
    return BASE if model is None else model.version


def test_without_a_version_the_base_answers_at_once(registry: Registry, loader: Loader) -> None:
    pool = pool_of(registry, loader)
    assert answering(pool) == BASE
    assert pool.version(P, "lip") is None
    assert answering(pool, "../x") == BASE
    assert loader.loaded == []


def test_after_a_restart_the_first_request_waits_for_the_current_version(registry: Registry, loader: Loader) -> None:
    add(registry)
    current = add(registry)
    pool = pool_of(registry, loader)
    assert pool.version(P, "lip") == current
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: answering(pool), range(8))) == {current}
    assert loader.loaded == [current], "once, however many ask"


def test_the_old_version_answers_until_the_new_one_is_loaded(registry: Registry, loader: Loader) -> None:
    pool = pool_of(registry, loader)
    assert answering(pool) == BASE
    loader.go_on.clear()
    first = add(registry)
    for _ in range(5):
        start = time.perf_counter()
        assert answering(pool) == BASE
        assert time.perf_counter() - start < 0.1
    assert pool.version(P, "lip") == first, "what will answer in a moment"
    loader.go_on.set()
    eventually(lambda: answering(pool) == first)
    loader.go_on.clear()
    second = add(registry)
    assert answering(pool) == first
    loader.go_on.set()
    eventually(lambda: answering(pool) == second)
    registry.rollback(P)
    eventually(lambda: answering(pool) == first)
    registry.rollback(P)
    eventually(lambda: answering(pool) == BASE)


def test_loading_one_project_does_not_hold_up_another(registry: Registry, loader: Loader) -> None:
    pool = pool_of(registry, loader)
    first = add(registry, Q)
    assert answering(pool, Q) == first
    loader.go_on.clear()
    add(registry, P)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(answering, pool, P)
        start = time.perf_counter()
        assert answering(pool, Q) == first
        assert time.perf_counter() - start < 0.1
        loader.go_on.set()
        assert waiting.result() == "lip-2+p1.001"


def test_every_worker_sees_a_promotion_within_a_second_without_a_request(registry: Registry, loader: Loader) -> None:
    workers = [pool_of(registry, loader), pool_of(Registry(registry.folder), loader)]
    for worker in workers:
        worker.watch()
        answering(worker)
    assert LOOK_EVERY_S < 1
    first = add(registry)
    eventually(lambda: len(loader.loaded) == 2, 3)
    assert [answering(worker) for worker in workers] == [first, first]


def test_a_version_that_is_damaged_or_does_not_load_is_passed_over(
    registry: Registry, loader: Loader, caplog: pytest.LogCaptureFixture
) -> None:
    good, damaged, broken = add(registry), add(registry), add(registry)
    (registry.folder / P / damaged / "model.safetensors").write_bytes(b"half")
    loader.broken.add(broken)
    pool = pool_of(registry, loader)
    assert answering(pool) == good
    assert "damaged" in caplog.text
    assert "no weights in there" in caplog.text
    assert pool.version(P, "lip") == good
    caplog.clear()
    assert answering(pool) == good
    assert not caplog.text, "it is not tried again at each request"
    (registry.folder / P / good / "model.safetensors").unlink()
    assert answering(pool_of(registry, loader)) == BASE


def test_a_fault_that_passes_is_tried_again(
    registry: Registry, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ihp_backend.serving.model_pool.TRY_AGAIN_S", 0.2)
    current = add(registry)
    loader.broken.add(current)
    pool = pool_of(registry, loader)
    assert answering(pool) == BASE
    loader.broken.clear()
    eventually(lambda: answering(pool) == current)


@pytest.mark.parametrize("what", ["stat", "current.json"])
def test_while_the_registry_cannot_be_read_the_last_version_answers(
    registry: Registry, loader: Loader, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("ihp_backend.serving.model_pool.TRY_AGAIN_S", 0.2)
    first = add(registry)
    pool = pool_of(registry, loader)
    assert answering(pool) == first
    stat, opened = os.stat, os.open

    def broken(path: Any, *args: Any, **options: Any) -> Any:
        if what == "stat" and str(path).endswith("current.json"):
            raise OSError(116, "Stale file handle")
        return stat(path, *args, **options)

    def unread(path: Any, *args: Any, **options: Any) -> int:
        if str(path).endswith(what):
            raise OSError(24, "Too many open files")
        return opened(path, *args, **options)

    second = add(registry)
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", broken)
        patch.setattr(os, "open", unread)
        answering(pool)
        time.sleep(0.3)
        assert answering(pool) == first
        assert pool.version(P, "lip") in (None, first, second)
        assert answering(pool_of(registry, loader)) == BASE
    eventually(lambda: answering(pool) == second)


def test_a_version_under_another_name_is_not_served(registry: Registry, loader: Loader) -> None:
    add(registry)
    pool = ModelPool(registry, lambda folder: DiscModel("another"), 4, Metrics())
    assert answering(pool) == BASE


def test_a_bounded_number_of_models_is_kept(registry: Registry, loader: Loader) -> None:
    projects = [f"{number}.1" for number in range(5)]
    made = [add(registry, project) for project in projects]
    pool = pool_of(registry, loader, most=2)
    assert [answering(pool, project) for project in projects] == made
    for number in range(20):
        answering(pool, f"unknown.{number}")
    assert [answering(pool, project) for project in projects[3:]] == made[3:]
    assert loader.loaded == made, "the last two were kept"
    assert answering(pool, projects[0]) == made[0]
    assert loader.loaded == [*made, made[0]]


def test_the_metrics_say_which_version_answers_whom(registry: Registry, loader: Loader) -> None:
    metrics = Metrics()
    pool = ModelPool(registry, loader, 4, metrics)
    first = add(registry)
    answering(pool)
    assert f'ihp_project_version{{project="{P}",version="{first}"}} 1.0' in metrics.render().decode()
    second = add(registry)
    eventually(lambda: answering(pool) == second)
    text = metrics.render().decode()
    assert f'version="{second}"}} 1.0' in text
    assert f'version="{first}"' not in text
