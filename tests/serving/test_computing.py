"""A few threads run the network, in turn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier, Event, Thread, current_thread

import pytest
import torch
from fakes import DiscModel

from ihp_backend.label_studio.connections import Connection
from ihp_backend.logs import request_id
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings

TOLD = Connection("http://told:8080", "told-token")


def make(tmp_path: Path, **environment: str) -> Runtime:
    runtime = Runtime(Settings.from_environment({"IHP_DATA_DIR": str(tmp_path), **environment}), DiscModel)
    runtime.connections.remember("1.2", TOLD)
    return runtime


def test_only_a_few_threads_compute_whoever_asks_and_models_load_there(tmp_path: Path) -> None:
    found: list[tuple[str, int]] = []

    def load() -> DiscModel:
        found.append((current_thread().name, torch.get_num_threads()))
        return DiscModel()

    settings = Settings.from_environment({"IHP_DATA_DIR": str(tmp_path), "IHP_THREADS": "1", "IHP_TORCH_THREADS": "3"})
    runtime = Runtime(settings, load)
    runtime.predictor()

    def ask(number: int) -> int:
        request_id.set(str(number))

        def work() -> int:
            found.append((current_thread().name, torch.get_num_threads()))
            return int(request_id.get())

        return runtime.computing.run(work)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == list(range(8)), "each log line has its request's id"
    assert len(found) == 9
    assert len(set(found)) == 1
    assert found[0][1] == 3
    assert found[0][0] != current_thread().name
    with pytest.raises(ZeroDivisionError):
        runtime.computing.run(lambda: 1 / 0)


def test_who_is_alone_gets_all_cores_and_others_share_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    computing = make(tmp_path).computing
    together = Barrier(2)

    def cores(*, meet: bool) -> int:
        if meet:
            together.wait(10)
        return torch.get_num_threads()

    assert computing.run(partial(cores, meet=False)) == 2
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: computing.run(partial(cores, meet=True)), range(2)))
    assert 1 in both, "two at a time, and the second one leaves the first a core"
    assert computing.run(partial(cores, meet=False)) == 2
    given = make(tmp_path, IHP_THREADS="1").computing
    assert given.run(partial(cores, meet=False)) == 2
    assert make(tmp_path, IHP_TORCH_THREADS="1").computing.run(partial(cores, meet=False)) == 1


def test_what_is_prefetched_lets_requests_in_between_and_never_raises(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = make(tmp_path, IHP_THREADS="1")
    order: list[str] = []
    first, asked = Event(), Event()

    def step(name: str) -> None:
        order.append(name)
        first.set()
        asked.wait(10)

    def break_off() -> None:
        raise RuntimeError("a photo of nothing")

    worker = runtime.computing.prefetch(lambda: [partial(step, "one"), break_off, partial(step, "never")])
    assert worker
    assert first.wait(10)

    request = Thread(target=lambda: runtime.computing.run(lambda: order.append("request")))
    request.start()
    asked.set()
    request.join(10)
    worker.join(10)
    assert order[0] == "one"
    assert set(order) == {"one", "request"}
    assert "a photo of nothing" in caplog.text
    assert runtime.computing.run(lambda: 1) == 1, "a failure gives its turn back"


def test_what_is_prefetched_is_bounded(tmp_path: Path) -> None:
    runtime = make(tmp_path, IHP_THREADS="1")
    ended = Event()
    long = Thread(target=lambda: runtime.computing.run(lambda: ended.wait(10)))
    long.start()
    workers = [runtime.computing.prefetch(list) for _ in range(10)]
    assert 1 <= sum(w is not None for w in workers) <= 3
    ended.set()
    for worker in workers:
        if worker:
            worker.join(10)
    assert runtime.computing.prefetch(list) is not None, "there is room again"
