"""A Label Studio that lies, breaks off or sends nonsense: a reason, no 5xx of ours, an end in time."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from backend import json_of, make, set_up, with_image
from fake_label_studio import LEGACY, PERSONAL, FakeLabelStudio
from fakes import DiscModel, golden, png

from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.label_studio.client import Client
from ihp_backend.label_studio.connections import Connection
from ihp_backend.serving.next_photo import NextPhoto

IMAGE = "/data/upload/1/a.png"
PHOTO = png(64, 64)
Route = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def studio() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as made:
        yield made


def answering(body: bytes, status: int = 200, **headers: str) -> Route:
    """Answers with these headers, whether they fit the body or not."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in ({"Content-Length": str(len(body))} | named).items():
            handler.send_header(name, value)
        handler.end_headers()
        with suppress(OSError):
            handler.wfile.write(body)

    return answer


def raw(data: bytes, times: int = 1) -> Route:
    """Sends bytes, be they HTTP or not."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):
            for _ in range(times):
                handler.wfile.write(data)
        handler.close_connection = True

    return answer


def token(claims: bytes) -> Route:
    payload = base64.urlsafe_b64encode(claims).decode().rstrip("=")
    return answering(json.dumps({"access": f"a.{payload}.c"}).encode())


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN = {
    "no HTTP": raw(b"SSH-2.0-x\r\n"),
    "nothing": raw(b""),
    "no status": raw(b"HTTP/1.1 abc OK\r\n\r\n"),
    "hundreds of headers": raw(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n"),
    "a long header": raw(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 200_000 + b"\r\n\r\n"),
    "go on, for ever": raw(b"HTTP/1.1 100 Continue\r\n\r\n", 1_000_000),
    "broken off": answering(b"abc", Content_Length="1000"),
    "a length that is negative": answering(b"abc", Content_Length="-5"),
    "a length of forty digits": answering(b"abc", Content_Length="9" * 40),
    "a length that is no number": answering(b"abc", Content_Length="abc"),
    "chunks without a length": raw(CHUNKED + b"ZZZ\r\nabc\r\n"),
    "chunks of negative length": raw(CHUNKED + b"-5\r\nabc\r\n0\r\n\r\n"),
    "not packed, as it says": answering(b"xxxx", Content_Encoding="gzip"),
    "nested": answering(b"[" * 90_000),
    "a number": answering(b"5"),
    "nothing at all": answering(b"null"),
    "a list of numbers": answering(b"[5]"),
}
REDIRECTS = [
    "http://[",
    "http://[::1",
    "\t//[x",
    "http://1.2.3.4]/",
    "http://a:99999/",
    "//",
    "http://%00/",
    "?" * 5000,
]
IMAGES = {
    **BROKEN,
    **{f"redirected to {to[:20]!r}": answering(b"", 302, Location=to) for to in REDIRECTS},
    "half a photo": answering(PHOTO[: len(PHOTO) // 2]),
    "a head and no photo": answering(PHOTO[:40] + bytes(1000)),
    "another kind than it says": answering(b"GIF89a" + PHOTO),
}
TOKENS = {
    **BROKEN,
    "an end of 400 digits": token(b'{"exp":1' + b"0" * 400 + b',"iat":0}'),
    "an end that is nested": token(b"[" * 60_000),
    "an end that is no number": token(b'{"exp":NaN,"iat":0}'),
    "letters that no header has": answering(b'{"access":"\\u00e9\\n"}'),
}


@pytest.mark.parametrize(
    ("route", "answer"),
    [*((IMAGE, answer) for answer in IMAGES.values()), *(("/api/token/refresh", answer) for answer in TOKENS.values())],
    ids=[*(f"image, {name}" for name in IMAGES), *(f"token, {name}" for name in TOKENS)],
)
def test_a_click_gets_no_mask_and_a_reason(
    tmp_path: Path, studio: FakeLabelStudio, route: str, answer: Route, caplog: pytest.LogCaptureFixture
) -> None:
    kind = LEGACY if route == IMAGE else PERSONAL
    told = {"IHP_LABEL_STUDIO_URL": studio.url, "IHP_LABEL_STUDIO_TOKEN": kind, "IHP_FETCH_TIMEOUT_S": "1"}
    client, runtime = make(tmp_path, DiscModel(), **told)
    studio.files[IMAGE] = PHOTO
    studio.routes[route] = answer
    began = time.monotonic()
    clicked = client.post("/predict", json=with_image(IMAGE))
    assert clicked.status_code == 200, clicked.text
    (found,) = json_of(clicked)["results"]
    assert found["result"] == []
    assert found["error"]
    assert client.get("/projects/1/connection").status_code == 200
    assert time.monotonic() - began < 12
    assert runtime.memory.free == runtime.memory.total
    assert LEGACY not in caplog.text


@pytest.mark.parametrize("name", [name for name in BROKEN if name != "go on, for ever"])
def test_what_the_api_breaks_off_or_makes_up_is_an_error_of_ours(studio: FakeLabelStudio, name: str) -> None:
    studio.answer = lambda handler, body: BROKEN[name](handler)  # type: ignore[method-assign]
    client = Client(studio.url, LEGACY, timeout_s=1.0)
    asked: list[Callable[[], Any]] = [
        client.whoami,
        client.version,
        lambda: client.annotations(1),
        lambda: client.list_ml_backends(1),
        lambda: list(client.list_projects()),
    ]
    for ask in asked:
        with pytest.raises(LabelStudioError):
            ask()


def test_the_server_reads_little_of_an_answer_that_makes_the_next_photo_ready(studio: FakeLabelStudio) -> None:
    sent = 0

    def endless(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        while sent < 200_000_000:
            handler.wfile.write(b" " * 100_000)
            sent += 100_000

    studio.routes["/api/projects/1/"] = endless
    thread = NextPhoto(lambda step: True).after("1.1", 7, Connection(studio.url, LEGACY), lambda task: list)
    assert thread is not None
    thread.join(20)
    assert not thread.is_alive()
    assert 0 < sent < 20_000_000


def test_a_setup_is_answered_whatever_label_studio_says_of_the_project(tmp_path: Path, studio: FakeLabelStudio) -> None:
    client, runtime = make(tmp_path, DiscModel(), IHP_FETCH_TIMEOUT_S="1")
    for answer in (*BROKEN.values(), *(answering(b"", 302, Location=to) for to in REDIRECTS)):
        studio.routes["/api/projects/1/"] = studio.routes["/api/current-user/whoami"] = answer
        for known in (LEGACY, "e" * 40):
            assert set_up(client, studio.url, known).status_code in (200, 409)
        assert client.post("/webhook", json=golden("webhook_start_training")).status_code in (200, 503)
    runtime.known.close()
