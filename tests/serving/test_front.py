"""The front: requests that are whole, halves, too large, too slow; no thread waits for a client."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import h11
import pytest
from front import all_of, connect, echo, fronted
from waiting import eventually

from ihp_backend.serving.front import Limits, Policy
from ihp_backend.serving.wsgi_call import call, environ_of

FAST = Limits(head_s=0.5, idle_s=0.5, body_s=0.5, pause_s=0.5, answer_s=0.5, linger_s=0.2, bytes_a_second=10_000_000)
POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
GET = b"GET /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def lives(port: int) -> bool:
    with connect(port, GET) as opened:
        return all_of(opened).startswith(b"HTTP/1.1 200")


def counted() -> tuple[list[str], Callable[[str], None]]:
    reasons: list[str] = []
    return reasons, reasons.append


HALVES = {
    "nothing": b"",
    "a letter": b"G",
    "half a head": b"POST /x HTTP/1.1\r\nHost:",
    "a head without an end": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 100,
    "half a body": POST % 1000 + b"{",
    "a body that does not begin": POST % 1000,
    "half a chunk": b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "half a head behind a request": b"GET /live HTTP/1.1\r\nHost: a\r\n\r\nGET /live HTTP/1.1\r\nHost:",
    "half a body behind a request": b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n" + POST % 1000 + b"{",
    "a body that waits to be asked for": (POST % 9)[:-2] + b"Expect: 100-continue\r\n\r\n",
}


@pytest.mark.parametrize("half", HALVES)
def test_halves_hold_no_thread_and_end(half: str) -> None:
    seen: list[bytes] = []
    with fronted(echo(seen), Policy(FAST), threads=1) as (port, front), ExitStack() as stack:
        opened = [stack.enter_context(connect(port, HALVES[half])) for _ in range(40)]
        assert lives(port)
        for connection in opened:
            last = all_of(connection).rpartition(b"HTTP/1.1 ")[2]
            assert not last or last[:3] in (b"200", b"408", b"100")
            connection.close()
        eventually(lambda: not front.connections)
    assert not any(seen), "the application never saw half a body"


def test_what_drips_is_cut_off() -> None:
    with fronted(echo(), Policy(FAST)) as (port, _):
        for begin in (b"POST /x HT", POST % 100_000):
            with connect(port, begin) as opened:
                began = time.monotonic()
                with suppress(BrokenPipeError, ConnectionResetError):
                    while True:
                        opened.sendall(b"a")
                        time.sleep(0.05)
                assert time.monotonic() - began < 15


def test_a_body_with_a_long_pause_is_cut_off_before_its_time_is_over() -> None:
    with fronted(echo(), Policy(Limits(body_s=30, pause_s=0.3))) as (port, _), connect(port, POST % 9 + b"a") as opened:
        opened.settimeout(10)
        assert all_of(opened).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_is_slow_but_comes_is_taken() -> None:
    limits = Limits(body_s=0.5, pause_s=5, bytes_a_second=1000)
    with fronted(echo(), Policy(limits)) as (port, _), connect(port, POST % 1000) as opened:
        for _ in range(10):
            opened.sendall(b"x" * 100)
            time.sleep(0.08)
        assert opened.recv(4096).endswith(b"x" * 100)


def test_a_head_that_is_too_long_is_refused_in_json() -> None:
    with fronted(echo(), Policy(Limits(head_bytes=10_000))) as (port, _):
        with connect(port, b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 20_000) as opened:
            answer = all_of(opened)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b'"error"' in answer


@pytest.mark.parametrize("garbage", [b"\0\1\2\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01" * 50])
def test_what_is_not_http_is_refused(garbage: bytes) -> None:
    reasons, count = counted()
    with fronted(echo(), Policy(FAST, count=count)) as (port, _), connect(port, garbage) as opened:
        answer = all_of(opened)
    assert answer.startswith(b"HTTP/1.1 4")
    assert reasons in (["malformed"], ["slow head"])


@pytest.mark.parametrize(
    "head",
    [
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_no_request_hides_behind_another(head: bytes) -> None:
    """Whatever a proxy before this server would take for the body's end, nothing behind it is answered."""
    seen: list[bytes] = []
    behind = b"POST /hidden HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nhidden"
    with fronted(echo(seen), Policy(FAST)) as (port, _), connect(port, head + behind) as opened:
        assert all_of(opened).startswith(b"HTTP/1.1 400 ")
    assert b"hidden" not in seen


def test_a_request_that_is_refused_by_its_head_is_answered_at_once() -> None:
    """Its body is not waited for, and does not pass for a next request; who sends it reads the answer."""

    def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        start_response("401 No password", [("Content-Length", "2")])
        return [b"no"]

    policy = Policy(Limits(linger_s=5), refuses=lambda environ: environ["PATH_INFO"] == "/x")
    with fronted(application, policy, threads=1) as (port, _):
        for body in (b"", b"{", b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n", b"x" * 3_000_000):
            with connect(port, POST % 5_000_000 + body) as opened:
                began = time.monotonic()
                assert opened.recv(1 << 16).startswith(b"HTTP/1.1 401 No password\r\n")
                assert time.monotonic() - began < 4
                opened.shutdown(socket.SHUT_WR)
                assert b"HTTP" not in all_of(opened)


def test_a_large_body_is_on_disk_while_it_comes_and_then_gone(tmp_path: Path) -> None:
    seen: list[bytes] = []
    policy = Policy(Limits(in_memory=1000), spool=tmp_path)
    with fronted(echo(seen), policy) as (port, front), connect(port, POST % 500_000 + b"a" * 100_000) as opened:
        eventually(lambda: any(c.body_bytes == 500_000 for c in front.connections))
        opened.sendall(b"a" * 400_000)
        eventually(lambda: bool(seen))
    assert seen == [b"a" * 500_000]
    assert not list(tmp_path.iterdir())


def test_chunks_are_put_together_and_limited() -> None:
    head = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    seen: list[bytes] = []
    with fronted(echo(seen), Policy(Limits(body_bytes=1000))) as (port, _):
        with connect(port, head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n") as opened:
            assert b"abcde" in opened.recv(4096)
        with connect(port, head + b"400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n") as opened:
            assert all_of(opened).startswith(b"HTTP/1.1 413 ")
    assert seen == [b"abcde"]


def test_without_room_on_disk_a_body_is_in_memory_and_many_are_refused(tmp_path: Path) -> None:
    policy = Policy(Limits(in_memory=10, body_bytes=1000, pause_s=5), spool=tmp_path / "missing")
    with fronted(echo(), policy) as (port, _), ExitStack() as stack:
        with connect(port, POST % 500 + b"x" * 500) as opened:
            assert opened.recv(4096).endswith(b"x")
        for _ in range(3):
            stack.enter_context(connect(port, POST % 600 + b"x"))
        with connect(port, POST % 600 + b"x") as opened:
            assert all_of(opened).startswith(b"HTTP/1.1 503 ")


def test_of_too_many_connections_the_one_that_waits_longest_goes() -> None:
    reasons, count = counted()
    policy = Policy(Limits(connections=5, head_s=20), count=count)
    with fronted(echo(), policy) as (port, _), ExitStack() as stack:
        waiting = []
        for _ in range(8):
            waiting.append(stack.enter_context(connect(port, b"GET / HT")))
            time.sleep(0.02)
        assert lives(port)
        assert reasons == ["too many connections"] * 4
        for gone in waiting[:4]:
            with suppress(ConnectionResetError):
                assert gone.recv(1) == b"", "it is closed"
        waiting[-1].sendall(b"TP/1.1\r\nHost: a\r\n\r\n")
        assert waiting[-1].recv(4096).startswith(b"HTTP/1.1 200")


def test_who_has_most_connections_pays() -> None:
    """Whoever opens ever more of them drops none of another address, which waits longer."""
    policy = Policy(Limits(connections=5, head_s=20))
    with fronted(echo(), policy) as (port, front), ExitStack() as stack:
        slow = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10, ("127.0.0.2", 0)))
        slow.sendall(POST % 2 + b"a")
        eventually(lambda: any(c.body_bytes for c in front.connections))
        for _ in range(20):
            stack.enter_context(connect(port, b"GET / HT"))
        assert lives(port)
        slow.sendall(b"b")
        assert slow.recv(4096).endswith(b"ab")


def test_more_whole_requests_than_there_may_be_are_told_to_come_again() -> None:
    reasons, count = counted()
    go_on = threading.Event()

    def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        if environ["PATH_INFO"] == "/x":
            go_on.wait(10)
        start_response("200 OK", [("Content-Length", "0")])
        return []

    policy = Policy(Limits(answering=3, connections=6), count=count)
    with fronted(application, policy, threads=1) as (port, front), ExitStack() as stack:
        try:
            for _ in range(3):
                stack.enter_context(connect(port, POST % 1 + b"x"))
            eventually(lambda: sum(c.is_answering for c in front.connections) == 3)
            for _ in range(9):
                with connect(port, POST % 1 + b"x") as opened:
                    answer = all_of(opened)
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"Retry-After: 1" in answer
                assert lives(port)
        finally:
            go_on.set()
    assert reasons == ["too many requests"] * 9


def test_bodies_that_are_being_answered_leave_no_room_for_more(tmp_path: Path) -> None:
    go_on = threading.Event()

    def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        go_on.wait(10)
        start_response("200 OK", [("Content-Length", "0")])
        return []

    policy = Policy(Limits(in_memory=10, bodies_bytes=1000, pause_s=5), spool=tmp_path)
    with fronted(application, policy) as (port, front), ExitStack() as stack:
        try:
            for _ in range(2):
                stack.enter_context(connect(port, POST % 500 + b"x" * 500))
            eventually(lambda: sum(c.is_answering for c in front.connections) == 2)
            with connect(port, POST % 500 + b"x") as opened:
                assert all_of(opened).startswith(b"HTTP/1.1 503 ")
        finally:
            go_on.set()


def test_answers_that_nobody_takes_end() -> None:
    reasons, count = counted()

    def large(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        start_response("200 OK", [("Content-Length", str(20_000_000))])
        return [b"x" * 20_000_000]

    policy = Policy(Limits(answers_bytes=50_000_000, answer_s=3, bytes_a_second=1e9), count=count)
    with fronted(large, policy) as (port, front), ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connect(port, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"))
        eventually(lambda: "answers that nobody takes" in reasons, 20)
        eventually(lambda: not front.connections, 20)


def test_probes_answer_while_all_threads_are_stuck() -> None:
    stuck, go_on = threading.Event(), threading.Event()

    def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        if environ["PATH_INFO"] == "/x":
            stuck.set()
            go_on.wait(10)
        start_response("200 OK", [("Content-Length", "0")])
        return []

    with fronted(application, Policy(), threads=1) as (port, _), ExitStack() as stack:
        try:
            for _ in range(5):
                stack.enter_context(connect(port, POST % 1 + b"x"))
            assert stuck.wait(5)
            for path in (b"/live", b"/ready", b"/health", b"/metrics", b"/"):
                with connect(port, GET.replace(b"/live", path)) as opened:
                    opened.settimeout(8)
                    assert all_of(opened).startswith(b"HTTP/1.1 200")
        finally:
            go_on.set()


def test_an_application_that_fails_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    def broken(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        raise KeyError("secret")

    with fronted(broken, Policy()) as (port, _), connect(port, GET.replace(b"live", b"x")) as opened:
        answer = all_of(opened)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in answer
    assert "KeyError" in caplog.text


def test_an_environ_is_what_the_request_says() -> None:
    headers = [("Host", "a"), ("X-B", "1"), ("X-B", "2"), ("X_Real_Ip", "9"), ("Content-Type", "t"), ("Cookie", "a=é")]
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    request = h11.Request(method=b"PUT", target=b"http://a/p%20q/%C3%A9?x=%20", headers=encoded)
    environ = environ_of(request, ("1.2.3.4", 5), ("127.0.0.1", 9090))
    assert environ["PATH_INFO"] == "/p q/é".encode().decode("latin-1")
    assert (environ["QUERY_STRING"], environ["REQUEST_METHOD"], environ["REMOTE_ADDR"]) == ("x=%20", "PUT", "1.2.3.4")
    assert (environ["HTTP_X_B"], environ["HTTP_COOKIE"], environ["CONTENT_TYPE"]) == ("1,2", "a=é", "t")
    assert not any("REAL" in name for name in environ)
    assert call(echo(), environ, BytesIO(b"all")).body == b"all"
