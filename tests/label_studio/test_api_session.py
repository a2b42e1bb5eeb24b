"""Tokens, limits and errors of requests to Label Studio."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fake_label_studio import LEGACY, PERSONAL, FakeLabelStudio, reply

from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.label_studio.client import Client


@pytest.fixture
def label_studio() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as fake:
        yield fake


@pytest.fixture
def elsewhere() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as fake:
        yield fake


def test_legacy_token_is_sent_as_it_is(label_studio: FakeLabelStudio) -> None:
    client = Client(label_studio.url + "/", LEGACY)
    assert client.token_kind == "legacy"
    assert client.whoami()["email"] == "a@b.c"
    assert label_studio.requests == [("GET", "/api/current-user/whoami", f"Token {LEGACY}")]


def test_personal_token_is_exchanged_once(label_studio: FakeLabelStudio) -> None:
    client = Client(label_studio.url, PERSONAL)
    assert client.token_kind == "personal"
    client.whoami()
    client.whoami()
    assert label_studio.exchanges == 1
    assert all(PERSONAL not in (given or "") for _, _, given in label_studio.requests)


def test_access_token_is_renewed_before_it_expires(
    label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr("ihp_backend.label_studio.api_session.monotonic", lambda: now)
    client = Client(label_studio.url, PERSONAL)
    first = client.auth_headers()
    now += 269
    assert client.auth_headers() == first
    now += 2
    assert client.auth_headers() != first
    assert label_studio.exchanges == 2


def test_refused_access_token_is_renewed_and_the_request_repeated(label_studio: FakeLabelStudio) -> None:
    client = Client(label_studio.url, PERSONAL)
    client.whoami()
    label_studio.expire()
    assert client.whoami()["id"] == 1
    assert label_studio.exchanges == 2


def test_threads_share_one_renewal(label_studio: FakeLabelStudio) -> None:
    client = Client(label_studio.url, PERSONAL)
    client.whoami()
    label_studio.expire()
    label_studio.delay_s = 0.05
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.whoami()["id"], range(8)))
    assert answers == [1] * 8
    assert label_studio.exchanges == 2


@pytest.mark.parametrize("token", ["wrong", PERSONAL + "x"])
def test_wrong_token_is_a_401_with_a_remedy(label_studio: FakeLabelStudio, token: str) -> None:
    with pytest.raises(LabelStudioError, match="Account & Settings") as caught:
        Client(label_studio.url, token).whoami()
    assert caught.value.status == 401
    assert "Account & Settings" in caught.value.remedy


def test_tokens_stay_out_of_messages_and_repr(label_studio: FakeLabelStudio, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    client = Client(label_studio.url, PERSONAL)
    access = client.auth_headers()["Authorization"].removeprefix("Bearer ")
    label_studio.routes["/api/token/refresh"] = lambda handler: reply(
        handler, 401, {"detail": f"{PERSONAL} is no good"}
    )
    label_studio.expire()
    with pytest.raises(LabelStudioError) as caught:
        client.whoami()
    with pytest.raises(LabelStudioError, match=r"\*\*\*") as legacy:
        Client(label_studio.url, "secret-and-wrong").whoami()
    told = f"{caught.value} {caught.value.reason} {client!r} {legacy.value} {caplog.text}"
    assert PERSONAL not in told
    assert access not in told
    assert "secret-and-wrong" not in told


def test_unreachable_host() -> None:
    with pytest.raises(LabelStudioError, match=r"http://127.0.0.1:9 cannot be reached.*is it running"):
        Client("http://127.0.0.1:9", LEGACY).whoami()


@pytest.mark.parametrize("url", ["http://", "nonsense", "ftp://host", "http://a b", "http://[::1"])
def test_impossible_address(url: str) -> None:
    with pytest.raises(LabelStudioError, match="cannot be reached"):
        Client(url, LEGACY).whoami()


def test_token_that_no_header_can_carry(label_studio: FakeLabelStudio) -> None:
    with pytest.raises(LabelStudioError) as caught:
        Client(label_studio.url, "ein\ntöken").whoami()
    assert "töken" not in str(caught.value)


def test_silence_ends_in_time(label_studio: FakeLabelStudio) -> None:
    label_studio.delay_s = 0.5
    with pytest.raises(LabelStudioError, match="in time"):
        Client(label_studio.url, LEGACY, timeout_s=0.1).whoami()


def test_redirect_is_named_and_not_followed(label_studio: FakeLabelStudio, elsewhere: FakeLabelStudio) -> None:
    label_studio.routes["/api/current-user/whoami"] = lambda handler: reply(
        handler, 302, Location=elsewhere.url + "/here"
    )
    with pytest.raises(LabelStudioError, match=f"redirected to {elsewhere.url}/here; use that address"):
        Client(label_studio.url, LEGACY).whoami()
    assert elsewhere.requests == []


def test_a_page_that_is_not_label_studio(label_studio: FakeLabelStudio) -> None:
    label_studio.routes["/api/current-user/whoami"] = lambda handler: reply(handler, 200, b"<html>")
    with pytest.raises(LabelStudioError, match=r"not JSON.*is this Label Studio's address"):
        Client(label_studio.url, LEGACY).whoami()


@pytest.mark.parametrize(
    "answer",
    [
        b"[]",
        b"null",
        b"5",
        b'"a"',
        b"[" * 100_000,
        b'{"a":' * 990 + b"1" + b"}" * 990,
        b'{"tasks":5}',
        b'{"tasks":[5]}',
    ],
)
@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_of_another_shape_is_an_error_of_ours(
    label_studio: FakeLabelStudio, answer: bytes, status: int
) -> None:
    client = Client(label_studio.url, LEGACY)
    label_studio.answer = lambda handler, body: reply(handler, status, answer)  # type: ignore[method-assign]
    with pytest.raises(LabelStudioError):
        list(client.select_tasks(1, annotated=True))
    if status == 500 or b"tasks" not in answer:
        with pytest.raises(LabelStudioError):
            client.get_project(1)


def test_netrc_does_not_replace_the_token(
    label_studio: FakeLabelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert Client(label_studio.url, LEGACY).whoami()["id"] == 1


def answering(body: bytes, **headers: str) -> Any:
    def answer(handler: Any) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        with suppress(OSError):
            handler.wfile.write(body)

    return answer


def dripping(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    with suppress(OSError):
        for _ in range(200):  # 10 s
            handler.wfile.write(b" ")
            time.sleep(0.05)


HOSTILE_ANSWERS = {
    "a bomb": answering(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip"),
    "long": answering(b" " * 5_000_000),
    "long, with a token behind": answering(b" " * 5_000_000 + b'{"access": "abc"}'),
    "nested": answering(b"[" * 50_000),
    "dripping": dripping,
    "a number": answering(b"5"),
    "no token": answering(b'{"access": "a b"}'),
    "a list": answering(b'{"access": ["a"]}'),
}


@pytest.mark.parametrize("name", HOSTILE_ANSWERS)
def test_an_exchange_is_bounded_in_bytes_and_time(name: str) -> None:
    with FakeLabelStudio() as studio:
        studio.routes["/api/token/refresh"] = HOSTILE_ANSWERS[name]
        tracemalloc.start()
        began = time.monotonic()
        try:
            with pytest.raises(LabelStudioError):
                Client(studio.url, PERSONAL, timeout_s=1.0).auth_headers()
            took = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert time.monotonic() - began < 8
    assert name != "a bomb" or took < 10_000_000


def test_an_answer_of_which_a_little_comes_again_and_again_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each letter comes in time; all of them take 10 s."""
    monkeypatch.setattr("ihp_backend.label_studio.api_session.LONGEST_ANSWER", 2)
    with FakeLabelStudio() as studio:
        studio.routes["/api/version"] = dripping
        began = time.monotonic()
        with pytest.raises(LabelStudioError, match="without an end"):
            Client(studio.url, LEGACY, timeout_s=1.0).version()
        assert 2 <= time.monotonic() - began < 6


def test_other_answers_are_bounded_as_they_are_unpacked() -> None:
    with FakeLabelStudio() as studio:
        studio.routes["/api/version"] = answering(gzip.compress(b" " * 500_000_000, 1), Content_Encoding="gzip")
        with pytest.raises(LabelStudioError, match="without an end"):
            Client(studio.url, LEGACY, answer_bytes=1_000_000).version()
        studio.routes["/api/version"] = answering(gzip.compress(b'{"release": "1.2.3"}'), Content_Encoding="gzip")
        assert Client(studio.url, LEGACY).version() == "1.2.3"
