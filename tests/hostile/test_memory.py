"""One budget for what requests make: taken before, given back after, 413 or 503 where there is too little."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend import assert_click_works, json_of, make, set_up, with_image
from fakes import DiscModel, ImageHost, golden, png
from flask.testing import FlaskClient
from numpy.typing import NDArray
from PIL import Image
from waiting import eventually

from ihp_backend import memory
from ihp_backend.label_studio import images
from ihp_backend.memory import Lane, MemoryBudget, MemoryLimitError, limited_by, reserved
from ihp_backend.serving import answering, application, process
from ihp_backend.serving.json_body import measure
from ihp_backend.serving.runtime import Runtime

MB = 1_000_000


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "WAIT_S", 0.2)


@pytest.fixture
def served(tmp_path: Path, image_host: ImageHost) -> Iterator[tuple[FlaskClient, Runtime]]:
    client, runtime = make(tmp_path, DiscModel(), IHP_REQUEST_MEMORY_MB="100")
    assert set_up(client, image_host.url).status_code == 200
    yield client, runtime
    assert runtime.memory.free == runtime.memory.total, "all of it was given back"
    assert_click_works(client)


def test_what_is_taken_is_given_back_whatever_happens() -> None:
    budget = MemoryBudget(100)
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(ZeroDivisionError))
        stack.enter_context(budget.taken(10, "it"))
        assert budget.free == 90
        stack.callback(lambda: 1 / 0)
    assert budget.free == 100


def fill(stack: ExitStack, budget: MemoryBudget) -> None:
    """Takes all there is."""
    stack.enter_context(budget.taken(budget.most_of_large, "others"))
    while budget.free:
        stack.enter_context(budget.taken(min(budget.free, budget.total // 8), "others"))


def test_who_finds_too_little_waits_and_then_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = MemoryBudget(100)
    with ExitStack() as stack:
        fill(stack, budget)
        with pytest.raises(MemoryLimitError) as caught, budget.taken(10, "more"):
            pass
        assert caught.value.is_temporary
    monkeypatch.setattr(memory, "WAIT_S", 10)
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        fill(stack, budget)
        waiting = pool.submit(lambda: stack.enter_context(budget.taken(10, "more")))
        assert not waiting.done()
        stack.pop_all().close()
        waiting.result(5)


def test_large_ones_share_three_quarters() -> None:
    budget = MemoryBudget(100)
    with budget.taken(40, "large"):
        with pytest.raises(MemoryLimitError), budget.taken(40, "as large"):
            pass
        with budget.taken(12, "small"), budget.taken(12, "small"), budget.taken(35, "large"):
            assert budget.free == 1
    with pytest.raises(MemoryLimitError) as caught, budget.taken(76, "more"):
        pass
    assert not caught.value.is_temporary
    assert budget.free == 100


def test_a_large_one_gets_its_turn_among_small_ones_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of sixteen clicks on as soon as it is answered: there is never as much free as a large one needs."""
    monkeypatch.setattr(memory, "WAIT_S", 5)
    budget, stop = MemoryBudget(100), threading.Event()

    def click() -> int:
        count = 0
        while not stop.is_set():
            with budget.taken(5, "small"):
                time.sleep(0.01)
            count += 1
        return count

    with ThreadPoolExecutor(16) as pool:
        clicks = [pool.submit(click) for _ in range(16)]
        try:
            eventually(lambda: budget.free <= 30)
            with budget.taken(70, "large"):
                time.sleep(0.3)  # and they go on, in what it leaves
        finally:
            stop.set()
    assert all(clicked.result() > 5 for clicked in clicks)
    assert budget.free == 100


def test_large_ones_come_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "WAIT_S", 5)
    budget, came = MemoryBudget(100), list[int]()

    def ask(number: int, size: int) -> None:
        with budget.taken(size, "large"):
            came.append(number)

    with ThreadPoolExecutor(3) as pool:
        with budget.taken(40, "large"):
            asked = []
            for number, size in enumerate((60, 20, 20)):
                asked.append(pool.submit(ask, number, size))
                time.sleep(0.05)
            assert not came, "a smaller one would fit, and does not overtake"
        for one in asked:
            one.result(5)
    assert came[0] == 0
    assert budget.free == 100


def test_a_large_one_that_never_gets_its_turn_stops_small_ones_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those who have the rest wait themselves, as with large bodies in hand."""
    monkeypatch.setattr(memory, "WAIT_S", 2)
    budget = MemoryBudget(100)
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(budget.taken(12, "a body"))
        asked = pool.submit(lambda: stack.enter_context(budget.taken(70, "large")))
        time.sleep(0.1)
        with budget.taken(12, "a click"):
            assert not asked.done()
        assert isinstance(asked.exception(), MemoryLimitError)


def test_who_gave_up_holds_up_nobody() -> None:
    budget = MemoryBudget(100)
    with budget.taken(40, "large"):
        with pytest.raises(MemoryLimitError), budget.taken(60, "large"):
            pass
        with budget.taken(30, "large"), budget.taken(12, "small"), budget.taken(12, "small"):
            pass


def test_what_does_not_fit_takes_the_most_there_is_beside_what_its_request_has() -> None:
    budget = MemoryBudget(100)
    with limited_by(budget), reserved(20, "the body"), reserved(500, "the answer", or_most=True):
        assert budget.free == 25
    assert budget.free == 100
    with limited_by(budget), pytest.raises(MemoryLimitError), reserved(500, "a photo"):
        pass


@pytest.mark.parametrize(
    "body",
    [
        b'{"tasks":[' + b"[]," * 700_000 + b"1]}",
        b'{"tasks":[' + b'{"a":1},' * 400_000 + b"1]}",
        b'{"t":"' + b"\xf0\x9f\x98\x80" * 4 * MB + b'"}',
    ],
    ids=["lists", "objects", "wide letters"],
)
def test_json_that_would_take_more_than_half_is_refused_before_it_is_parsed(
    served: tuple[FlaskClient, Runtime], body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = served
    monkeypatch.delattr("ihp_backend.serving.application.parse")
    for route in ("/predict", "/setup", "/webhook"):
        answer = client.post(route, data=body, content_type="application/json")
        assert answer.status_code == 413
    monkeypatch.undo()


def test_while_others_have_it_a_request_is_told_to_come_again(served: tuple[FlaskClient, Runtime]) -> None:
    client, runtime = served
    with ExitStack() as stack:
        fill(stack, runtime.memory)
        for route, name in (("/predict", "predict_click"), ("/setup", "setup"), ("/webhook", "webhook_start_training")):
            answer = client.post(route, json=golden(name))
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
        assert client.get("/live").status_code == client.get("/metrics").status_code == 200


def test_each_thing_that_a_request_makes_is_taken_before_it_is_made(
    served: tuple[FlaskClient, Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body, the copies that measuring it takes, its objects, the answer's masks."""
    client, runtime = served
    taken: dict[str, int] = {}

    def seen(where: Any, name: str) -> None:
        inner = getattr(where, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            taken[name] = runtime.memory.total - runtime.memory.free
            return inner(*args, **kwargs)

        monkeypatch.setattr(where, name, call)

    seen(application, "measure")
    seen(application, "parse")
    seen(answering, "load_photo")
    seen(DiscModel, "answer")
    body = json.dumps(golden("predict_click")).encode()
    assert client.post("/predict", data=body, content_type="application/json").status_code == 200
    monkeypatch.undo()
    objects = measure(body).memory
    pixels = 640 * 480
    assert taken["measure"] == 3 * len(body)
    assert taken["parse"] == taken["load_photo"] == len(body) + objects
    assert taken["answer"] == len(body) + objects + pixels * (3 + 6)


def test_what_a_request_took_is_given_back_at_its_end_and_not_when_it_is_collected(
    served: tuple[FlaskClient, Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, runtime = served
    held: list[ExitStack] = []  # as the log of an error may hold them

    class Held(ExitStack):
        def __init__(self) -> None:
            super().__init__()
            held.append(self)

    monkeypatch.setattr(application, "ExitStack", Held)
    for route, name in (("/predict", "predict_click"), ("/predict", "setup"), ("/webhook", "webhook_start_training")):
        client.post(route, json=golden(name))
        assert runtime.memory.free == runtime.memory.total
    assert len(held) == 3


def test_memory_is_given_back_once_after_what_was_large(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(process, "give_back", lambda: given.append(1))
    budget = MemoryBudget(100)
    with budget.taken(12, "a click"), budget.taken(12, "a click"):
        pass
    assert not process.give_back_after_large(budget)
    with budget.taken(30, "large"):
        assert not process.give_back_after_large(budget), "it is still there"
    assert process.give_back_after_large(budget)
    assert not process.give_back_after_large(budget)
    assert given == [1]


FREED = """
from pathlib import Path
from ihp_backend.serving import process

def mb():
    return next(int(l.split()[1]) // 1000 for l in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in l)

process.prepare()
before, large, behind = mb(), bytearray(b"a" * 200_000_000), bytearray(b"b" * 1_000_000)
del large
kept = mb()
process.give_back()
print(kept - before, mb() - before)
"""


def test_what_is_given_back_is_the_kernel_s() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True, timeout=60)
    kept, left = map(int, done.stdout.split())
    assert kept > 150
    assert left < 50


def test_the_server_gives_it_back(tmp_path: Path) -> None:
    client, runtime = make(tmp_path, DiscModel(), IHP_REQUEST_MEMORY_MB="100")
    with runtime.memory.taken(30 * MB, "large"):
        pass
    assert client.application.extensions["ihp_front"].every_second()
    assert not client.application.extensions["ihp_front"].every_second()


def data_url(data: bytes, kind: str = "png", number: int = 0) -> str:
    return f"data:image/{kind};n={number};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize("size", [(3000, 2000), (2500, 2000)])
@pytest.mark.parametrize("is_clicked", [True, False])
def test_a_photo_whose_answer_is_larger_than_the_budget_is_answered(
    served: tuple[FlaskClient, Runtime], size: tuple[int, int], is_clicked: bool
) -> None:
    body = with_image(data_url(png(*size)))
    if not is_clicked:
        body["params"]["context"] = None
    answer = served[0].post("/predict", json=body)
    assert answer.status_code == 200, answer.text


def test_a_photo_larger_than_the_budget_has_no_mask(
    served: tuple[FlaskClient, Runtime], caplog: pytest.LogCaptureFixture
) -> None:
    answer = served[0].post("/predict", json=with_image(data_url(png(4000, 3500))))
    assert json_of(answer)["results"][0]["result"] == []
    assert "IHP_REQUEST_MEMORY_MB" in caplog.text


def test_a_lane_has_places_and_a_queue() -> None:
    lane, go_on = Lane(1, 2), threading.Event()
    inside: list[int] = []

    def work(number: int) -> None:
        with lane.taken():
            inside.append(number)
            go_on.wait(10)

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(work, number) for number in range(8)]
        try:
            eventually(lambda: sum(a.done() for a in asked) == 5)  # one has the place, two wait
            assert len(inside) == 1
        finally:
            go_on.set()
    refused = [a.exception() for a in asked if a.exception()]
    assert len(refused) == 5
    assert all(isinstance(error, MemoryLimitError) and error.is_temporary for error in refused)
    assert len(inside) == 3
    with lane.taken():
        pass


def test_many_slow_images_do_not_hold_up_a_click(
    served: tuple[FlaskClient, Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many bombs as there are places for requests: most are told to come again, and a click is answered."""
    client, runtime = served
    go_on = threading.Event()

    def slow(*_: Any, **__: Any) -> NDArray[np.uint8]:
        go_on.wait(20)
        return np.zeros((480, 640, 3), np.uint8)

    monkeypatch.setattr(images, "decode_apart", slow)
    file = io.BytesIO()
    Image.new("L", (64, 64)).save(file, "TIFF")
    tiff = file.getvalue()
    places = runtime.settings.queue_limit

    def ask(number: int) -> int:
        body = with_image(data_url(tiff, "tiff", number))
        body["tasks"][0]["id"] = 100 + number
        return client.application.test_client().post("/predict", json=body).status_code

    with ThreadPoolExecutor(places) as pool:
        asked = [pool.submit(ask, number) for number in range(places)]
        try:
            eventually(lambda: sum(a.done() for a in asked) >= places - 2 * 10, 20)
            assert_click_works(client)
        finally:
            go_on.set()
    codes = [a.result() for a in asked]
    assert set(codes) == {200, 503}
    assert codes.count(200) <= 20
