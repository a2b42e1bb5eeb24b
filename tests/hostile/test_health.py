"""Health routes answer whatever else is stuck, also to the address that everything else comes from."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import h11
import pytest
from front import all_of, connect, echo, fronted
from waiting import eventually

from ihp_backend.serving import front as front_module
from ihp_backend.serving.front import Limits, Policy

LIVE = b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n"
ASK = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"

CROWDS = {
    "half a request behind a whole one": LIVE + b"GET /live HTTP/1.1\r\nHost:",
    "half a body behind a request": LIVE + POST % 9 + b"{",
    "half heads": b"GET /live HT",
    "half bodies": POST % 1000 + b"{",
    "whole requests, and then nothing": LIVE,
    "nothing": b"",
}


def status(port: int, path: bytes, source: str = "127.0.0.1") -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10, (source, 0)) as opened:
        opened.sendall(ASK % path)
        return all_of(opened)[9:12]


@pytest.mark.parametrize("kind", CROWDS)
def test_a_crowd_takes_no_health_from_its_own_address(kind: str) -> None:
    with fronted(echo(), Policy(Limits(connections=40, burst=2000))) as (port, front), ExitStack() as stack:
        for round_ in range(4):
            with ThreadPoolExecutor(4) as pool:  # so that asking and crowding are at the same time
                crowd = [pool.submit(connect, port, CROWDS[kind]) for _ in range(150)]
                answers = [status(port, b"/live") for _ in range(20)]
                for one in crowd:
                    stack.enter_context(one.result())
            assert answers == [b"200"] * 20, round_
        eventually(lambda: status(port, b"/live") == b"200" and len(front.connections) <= 41)


def test_a_crowd_is_bounded_before_anybody_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "LOOKED_AT_S", 60.0)
    with fronted(echo(), Policy(Limits(connections=3, burst=6))) as (port, front), ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(connect(port))
        assert status(port, b"/live") == b"200"
        eventually(lambda: 3 < len(front.connections) <= 6)


@contextmanager
def stuck(policy: Policy) -> Iterator[tuple[int, Any]]:
    """A server whose threads all wait, and those for probes, too."""
    go_on = threading.Event()

    def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        if "HTTP_LATE" in environ:
            go_on.wait(10)
        start_response("401 No" if "HTTP_STRANGER" in environ else "200 OK", [("Content-Length", "0")])
        return []

    with fronted(application, policy, threads=1) as (port, front), ExitStack() as stack:
        try:
            late = b"\r\nLate: 1\r\n\r\n"
            for begin, count in ((ASK % b"/x", policy.limits.answering), (ASK % b"/metrics", policy.limits.probing)):
                for _ in range(count):
                    stack.enter_context(connect(port, begin[:-4] + late))
            most = policy.limits.answering + policy.limits.probing
            eventually(lambda: sum(c.is_answering for c in front.connections) == most)
            yield port, front
        finally:
            go_on.set()


def test_the_loop_answers_while_all_threads_are_stuck() -> None:
    with stuck(Policy(Limits(answering=3, probing=3))) as (port, _):
        for path in (b"/live", b"/ready"):
            assert status(port, path) == b"200"


def test_neither_kind_takes_the_others_places() -> None:
    with stuck(Policy(Limits(answering=3, probing=0))) as (port, _):
        assert status(port, b"/x") == status(port, b"/metrics") == b"503"
    with stuck(Policy(Limits(answering=3, probing=3))) as (port, front):
        assert status(port, b"/x") == status(port, b"/metrics") == status(port, b"/health") == b"503"
        with connect(port, b"GET /live HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx") as opened:
            assert all_of(opened)[9:12] == b"503", "with a body it is a request like others"
        assert len(front.connections) < 20
    with stuck(Policy(Limits(answering=0, probing=3))) as (port, _):
        assert status(port, b"/x") == b"503"


@pytest.mark.parametrize("path", [b"/x", b"/health"])
def test_one_address_leaves_places_to_others(path: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        if "HTTP_LATE" in environ:
            go_on.wait(10)
        start_response("200 OK", [("Content-Length", "0")])
        return []

    monkeypatch.setattr(front_module, "PROBE_THREADS", 20)
    with (
        fronted(application, Policy(Limits(answering=8, probing=8)), threads=20) as (port, front),
        ExitStack() as stack,
    ):
        try:
            late = b"\r\nLate: 1\r\n\r\n"
            for _ in range(6):
                stack.enter_context(connect(port, (ASK % path)[:-4] + late))
            eventually(lambda: sum(c.is_answering for c in front.connections) == 6)
            assert status(port, path) == b"503"
            assert status(port, path, source="127.0.0.2") == b"200"
        finally:
            go_on.set()


@pytest.mark.parametrize("path", [b"/live", b"/health"])
def test_one_connection_with_thousands_of_requests_at_once_holds_up_nobody(path: bytes) -> None:
    answered = 0

    def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        nonlocal answered
        answered += "HTTP_MANY" in environ
        time.sleep(0.001)
        start_response("200 OK", [("Content-Length", "0")])
        return []

    many = (ASK % path).replace(b"Connection: close", b"Many: 1") * 20_000
    with fronted(application, Policy()) as (port, _), connect(port) as one:
        sending = threading.Thread(target=send_all, args=(one, many))
        sending.start()
        try:
            eventually(lambda: answered > 20)
            for asked in (b"/live", b"/ready", b"/health", b"/x"):
                before = answered
                assert status(port, asked) == b"200"
                assert answered - before < 500, "it waits for a few of them, and not for all that came"
            eventually(lambda: answered > before)
        finally:
            one.shutdown(socket.SHUT_RDWR)
            sending.join()


def test_a_body_of_tiny_chunks_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed, next_event = 0, h11.Connection.next_event

    def counted(self: h11.Connection) -> object:
        nonlocal parsed
        parsed += 1
        return next_event(self)

    monkeypatch.setattr(h11.Connection, "next_event", counted)
    chunks = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 60_000
    with fronted(echo(), Policy()) as (port, front), connect(port) as one:
        sending = threading.Thread(target=send_all, args=(one, chunks))
        sending.start()
        try:
            eventually(lambda: parsed > 1000)
            for asked in (b"/live", b"/ready"):
                before = parsed
                assert status(port, asked) == b"200"
                assert parsed - before < 5000, "it waits for a few chunks, and not for all that came"
            eventually(lambda: parsed > before)
        finally:
            one.shutdown(socket.SHUT_RDWR)
            sending.join()
            eventually(lambda: not front.connections)


def send_all(opened: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        opened.sendall(data)


def test_a_refusal_waits_for_no_thread() -> None:
    with stuck(Policy(Limits(answering=3, probing=3), refuses=lambda environ: "HTTP_STRANGER" in environ)) as (port, _):
        with connect(port, (POST % 1000)[:-2] + b"Stranger: 1\r\n\r\n{") as opened:
            assert all_of(opened)[9:12] == b"401"
        with connect(port, POST % (1 << 40)) as opened:
            assert all_of(opened)[9:12] == b"413"
