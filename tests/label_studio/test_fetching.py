"""Downloads of photos: which hosts, redirects and addresses are allowed, how many bytes, and for how long."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
import pytest
from fake_label_studio import FakeLabelStudio
from photo_hosts import RED, host_with_photo, load, loader, png, reply, studio_with_photo

from ihp_backend.label_studio import fetching
from ihp_backend.label_studio.fetching import FetchError, HttpUrl, is_public
from ihp_backend.label_studio.images import ImageError


@pytest.fixture
def studio() -> Iterator[FakeLabelStudio]:
    with studio_with_photo() as fake:
        yield fake


@pytest.fixture
def elsewhere() -> Iterator[FakeLabelStudio]:
    with host_with_photo() as fake:
        yield fake


def test_another_host_has_to_be_allowed(studio: FakeLabelStudio, elsewhere: FakeLabelStudio) -> None:
    url = elsewhere.url.replace("127.0.0.1", "localhost") + "/b.png"
    with pytest.raises(ImageError, match=r"localhost.*IHP_ALLOWED_HOSTS"):
        load(loader(studio), url)
    with pytest.raises(ImageError, match="private address"):
        load(loader(studio, allowed_hosts=("localhost",)), url)
    assert elsewhere.requests == []
    images = loader(studio, allowed_hosts=("localhost",), allow_private_addresses=True)
    assert np.array_equal(load(images, url), RED)
    (request,) = elsewhere.requests
    assert request[2] is None  # the token stays at home


@pytest.mark.parametrize(
    ("rule", "host", "allowed"),
    [
        ("a.example", "a.example", True),
        ("a.example", "b.a.example", False),
        ("a.example", "xa.example", False),
        ("*.a.example", "b.a.example", True),
        ("*.a.example", "a.example", False),
        ("*.a.example", "bada.example", False),
        ("*", "anything.example", True),
        ("a.example:444", "a.example:444", True),
        ("a.example:444", "a.example", False),
        ("[::1]", "[::1]:80", True),
        ("[::1]:81", "[::1]:80", False),
    ],
)
def test_which_hosts_a_rule_means(monkeypatch: pytest.MonkeyPatch, rule: str, host: str, allowed: bool) -> None:
    asked: list[HttpUrl] = []

    def get(target: HttpUrl, headers: Any, **_: Any) -> fetching.Reply:
        asked.append(target)
        return fetching.Reply(200, {}, png())

    monkeypatch.setattr("ihp_backend.label_studio.images.get", get)
    images = loader(allowed_hosts=(rule,))
    if allowed:
        load(images, f"https://{host}/x.png")
    else:
        with pytest.raises(ImageError, match="IHP_ALLOWED_HOSTS"):
            load(images, f"https://{host}/x.png")
    assert len(asked) == allowed


def test_redirects_are_checked_anew(studio: FakeLabelStudio, elsewhere: FakeLabelStudio) -> None:
    target = elsewhere.url.replace("127.0.0.1", "localhost") + "/b.png"
    studio.routes["/data/away.png"] = reply(302, Location=target)
    with pytest.raises(ImageError, match="localhost"):
        load(loader(studio), "/data/away.png")
    assert elsewhere.requests == []
    images = loader(studio, allowed_hosts=("localhost",), allow_private_addresses=True)
    assert np.array_equal(load(images, "/data/away.png"), RED)
    assert elsewhere.requests[0][2] is None


def test_redirects_at_home_and_in_circles(studio: FakeLabelStudio) -> None:
    studio.routes["/data/here.png"] = reply(302, Location="/data/upload/1/a.png")
    studio.routes["/data/circle.png"] = reply(302, Location="/data/circle.png")
    studio.routes["/data/file.png"] = reply(302, Location="file:///etc/passwd")
    assert np.array_equal(load(loader(studio), "/data/here.png"), RED)
    with pytest.raises(ImageError, match="redirected more than"):
        load(loader(studio), "/data/circle.png")
    with pytest.raises(ImageError, match="scheme is 'file'"):
        load(loader(studio), "/data/file.png")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://a.example/x",
        "http://",
        "http://a b/",
        "gopher://x",
        "x",
        "http://[",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ImageError):
        load(loader(allowed_hosts=("*",)), url)


def test_secrets_in_an_address_are_not_sent() -> None:
    with pytest.raises(ImageError, match="user or password"):
        load(loader(allowed_hosts=("*",)), "http://user:secret@a.example/x.png")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("2002:7f00:1::", False),
        ("2606:4700:4700::1111", True),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_a_name_is_resolved_once(monkeypatch: pytest.MonkeyPatch, elsewhere: FakeLabelStudio) -> None:
    """A name that is public when asked first and private when asked again must not be asked again."""
    answers = iter(["93.184.216.34", "127.0.0.1"])
    connected: list[Any] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    def connect(self: socket.socket, address: Any) -> None:
        connected.append(address)
        raise OSError("no route")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(ImageError, match="no route"):
        load(loader(allowed_hosts=("*",)), f"http://rebind.example:{elsewhere.port}/b.png")
    assert connected == [("93.184.216.34", elsewhere.port)]


def test_too_many_bytes_claimed_or_not(studio: FakeLabelStudio) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 10_000)

    studio.routes["/data/endless.png"] = endless
    studio.routes["/data/claims.png"] = reply(200, b"", **{"Content-Length": "99999999"})
    images = loader(studio, max_image_bytes=50_000)
    for path in ("/data/endless.png", "/data/claims.png"):
        with pytest.raises(ImageError, match="IHP_MAX_IMAGE_BYTES"):
            load(images, path)


def test_bytes_that_drip_run_out_of_time(studio: FakeLabelStudio) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)

    studio.routes["/data/drip.png"] = drip
    started = time.monotonic()
    with pytest.raises(ImageError, match="IHP_FETCH_TIMEOUT_S"):
        load(loader(studio, fetch_timeout_s=0.4), "/data/drip.png")
    assert time.monotonic() - started < 4


def test_redirects_that_each_take_a_while_run_out_of_time(studio: FakeLabelStudio) -> None:
    def go_on(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.4)
        reply(302, Location="/data/circle.png")(handler)

    studio.routes["/data/circle.png"] = go_on
    started = time.monotonic()
    with pytest.raises(ImageError, match="IHP_FETCH_TIMEOUT_S"):
        load(loader(studio, fetch_timeout_s=0.6), "/data/circle.png")
    assert len(studio.requests) == 2
    assert time.monotonic() - started < 2


def test_a_broken_off_download(studio: FakeLabelStudio) -> None:
    def half(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "5000")
        handler.end_headers()
        handler.wfile.write(b"x" * 100)

    studio.routes["/data/half.png"] = half
    with pytest.raises(ImageError, match="broke off"):
        load(loader(studio), "/data/half.png")


def test_an_unknown_and_a_closed_host() -> None:
    images = loader(allowed_hosts=("*",), allow_private_addresses=True)
    with pytest.raises(ImageError, match="not known"):
        load(images, "http://no-such-host.invalid/x.png")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ImageError, match="cannot be reached"):
        load(images, f"http://127.0.0.1:{port}/x.png")


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("HTTP://A.Example/x?y=1#z", "http://a.example", "/x?y=1"),
        ("https://a.example:443", "https://a.example", "/"),
        ("https://a.example:8443/ü x", "https://a.example:8443", "/%C3%BC%20x"),
        ("http://[2001:DB8::1]:8080/", "http://[2001:db8::1]:8080", "/"),
        ("http://bücher.example./", "http://xn--bcher-kva.example", "/"),
    ],
)
def test_addresses_are_taken_apart(url: str, origin: str, path: str) -> None:
    target = HttpUrl.parse(url)
    assert (target.origin, target.path) == (origin, path)


@pytest.mark.parametrize("url", ["http://a.example:99999/", "http://a.example:0/", "http://a%00b/", "//a.example/x"])
def test_addresses_that_cannot_be(url: str) -> None:
    with pytest.raises(FetchError):
        HttpUrl.parse(url)
