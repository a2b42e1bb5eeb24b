"""Images from everywhere they may come from, and from nowhere else."""

from __future__ import annotations

import base64
import io
import os
import socket
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fake_label_studio import LEGACY, PERSONAL, FakeLabelStudio, presign
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.label_studio import fetching
from ihp_backend.label_studio.fetching import FetchError, HttpUrl, is_public
from ihp_backend.label_studio.image_address import askable
from ihp_backend.label_studio.images import ImageError, ImageLoader
from ihp_backend.settings import Settings

RED = np.full((6, 8, 3), (200, 30, 10), np.uint8)


def png(array: NDArray[np.uint8] = RED) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def reply(status: int = 200, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.fixture
def studio() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as fake:
        fake.files["/data/upload/1/a.png"] = png()
        yield fake


@pytest.fixture
def elsewhere() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as fake:
        fake.routes["/b.png"] = reply(200, png())
        yield fake


def loader(studio: FakeLabelStudio | None = None, **settings: Any) -> ImageLoader:
    known = {"label_studio_url": studio.url, "label_studio_token": LEGACY} if studio else {}
    return ImageLoader(Settings(**{"fetch_timeout_s": 5.0, **known, **settings}))


def load(images: ImageLoader, url: str, **told: Any) -> NDArray[np.uint8]:
    return images.load(url, hostname=told.get("hostname"), token=told.get("token"))


@pytest.mark.parametrize("token", [LEGACY, PERSONAL])
def test_uploads_with_both_kinds_of_token(studio: FakeLabelStudio, token: str) -> None:
    images = loader(studio, label_studio_token=token)
    image = load(images, "/data/upload/1/a.png")
    assert np.array_equal(image, RED)
    assert not image.flags.writeable
    assert load(images, "/data/upload/1/a.png") is image  # kept
    assert load(images, f"{studio.url}/data/upload/1/a.png") is image


def test_what_setup_told_is_used_where_the_settings_say_nothing(studio: FakeLabelStudio) -> None:
    images = loader(allow_private_addresses=True)
    assert np.array_equal(load(images, "/data/upload/1/a.png", hostname=studio.url, token=LEGACY), RED)
    # Who has no token does not get it from the memory of who has.
    with pytest.raises(ImageError, match="401"):
        load(images, "/data/upload/1/a.png", hostname=studio.url)


def test_a_private_address_that_a_stranger_may_have_told_is_refused(studio: FakeLabelStudio) -> None:
    strangers = loader(host="0.0.0.0", allow_anonymous=True)
    with pytest.raises(ImageError, match="IHP_LABEL_STUDIO_URL"):
        load(strangers, "/data/upload/1/a.png", hostname=studio.url, token=LEGACY)
    assert studio.requests == []
    known = loader(host="0.0.0.0", basic_auth_user="u", basic_auth_password="p")
    assert np.array_equal(load(known, "/data/upload/1/a.png", hostname=studio.url, token=LEGACY), RED)


def test_a_personal_token_is_not_exchanged_where_a_stranger_says(studio: FakeLabelStudio) -> None:
    """Its exchange is a POST before the image is asked for: a way to any address, too."""
    strangers = loader(host="0.0.0.0", allow_anonymous=True)
    with pytest.raises(ImageError, match="IHP_LABEL_STUDIO_URL"):
        load(strangers, "/data/upload/1/a.png", hostname=studio.url, token=PERSONAL)
    with pytest.raises(ImageError, match="IHP_LABEL_STUDIO_URL"):
        strangers.check(studio.url, PERSONAL)
    assert studio.requests == []
    known = loader(host="0.0.0.0", basic_auth_user="u", basic_auth_password="p")
    assert np.array_equal(load(known, "/data/upload/1/a.png", hostname=studio.url, token=PERSONAL), RED)


def test_an_expired_access_token_is_renewed(studio: FakeLabelStudio) -> None:
    studio.files["/data/upload/1/b.png"] = png()
    images = loader(studio, label_studio_token=PERSONAL)
    load(images, "/data/upload/1/a.png")
    studio.expire()  # as after 300 s
    load(images, "/data/upload/1/b.png")
    assert studio.exchanges == 2


def test_without_an_address_the_message_says_what_to_do() -> None:
    with pytest.raises(ImageError, match="IHP_LABEL_STUDIO_URL"):
        load(loader(), "/data/upload/1/a.png")


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_refusal_is_explained(studio: FakeLabelStudio, status: int) -> None:
    studio.routes["/data/x.png?signature=secret"] = reply(status)
    with pytest.raises(ImageError, match=rf"/data/x\.png' cannot be had: {studio.url} answered {status}"):
        load(loader(studio), "/data/x.png?signature=secret")


def test_failures_are_not_kept(studio: FakeLabelStudio) -> None:
    images = loader(studio)
    with pytest.raises(ImageError):
        load(images, "/data/late.png")
    studio.files["/data/late.png"] = png()
    assert load(images, "/data/late.png").shape == (6, 8, 3)


# Other hosts


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


def test_a_storage_is_asked_through_label_studio_and_its_redirect_is_guarded(
    studio: FakeLabelStudio, elsewhere: FakeLabelStudio
) -> None:
    signed = "/bucket/a.png?X-Signature=a%2Fb%2Bc%3D&e=1"
    elsewhere.routes[signed] = reply(200, png())
    target = elsewhere.url.replace("127.0.0.1", "localhost") + signed
    studio.routes[presign("s3://bucket/a.png")] = reply(303, Location=target)
    address = askable("s3://bucket/a.png", 7)
    with pytest.raises(ImageError, match=r"'s3://bucket/a.png' cannot be had.*localhost.*IHP_ALLOWED_HOSTS"):
        load(loader(studio), address)
    assert elsewhere.requests == []
    images = loader(studio, allowed_hosts=("localhost",), allow_private_addresses=True)
    assert np.array_equal(load(images, address), RED)
    assert elsewhere.requests == [("GET", signed, None)], "as it was signed, and without the token"
    assert studio.requests[-1][2] == f"Token {LEGACY}"


def test_a_storage_that_label_studio_passes_through(studio: FakeLabelStudio) -> None:
    studio.files[presign("gs://bucket/a.png")] = png()
    assert np.array_equal(load(loader(studio), askable("gs://bucket/a.png", 7)), RED)
    studio.files[f"/ls{presign('gs://bucket/a.png')}"] = png()
    below = loader(studio, label_studio_url=f"{studio.url}/ls")
    assert np.array_equal(load(below, askable("gs://bucket/a.png", 7)), RED)


@pytest.mark.parametrize(
    ("status", "why"), [(404, "no storage.*has it"), (424, ".*storage.*does not answer"), (403, "the token.s user")]
)
def test_a_storage_that_is_not_connected_is_told(studio: FakeLabelStudio, status: int, why: str) -> None:
    studio.routes[presign("azure-blob://box/a.png")] = reply(status)
    with pytest.raises(ImageError, match=rf"'azure-blob://box/a.png' cannot be had.*{status}, {why}"):
        load(loader(studio), askable("azure-blob://box/a.png", 7))


def test_uploads_that_label_studio_keeps_in_a_cloud(studio: FakeLabelStudio, elsewhere: FakeLabelStudio) -> None:
    """Then they are not below /data/upload, but where the SDK asks, too."""
    target = elsewhere.url.replace("127.0.0.1", "localhost") + "/b.png"
    studio.routes["/storage-data/uploaded/?filepath=upload/1/cloud.png"] = reply(302, Location=target)
    images = loader(studio, allowed_hosts=("localhost",), allow_private_addresses=True)
    assert np.array_equal(load(images, "/data/upload/1/cloud.png"), RED)
    with pytest.raises(ImageError, match="404"):
        load(images, "/data/upload/1/none.png")


@pytest.mark.parametrize(
    ("told", "url"),
    [
        ("http://outer.example", "http://outer.example/data/upload/1/a.png"),
        ("http://outer.example/", "http://outer.example:80/data/upload/1/a.png"),
        ("http://outer.example", "https://outer.example/data/upload/1/a.png"),
        ("https://outer.example", "http://outer.example/data/upload/1/a.png"),
        ("http://outer.example:8080/ls", "http://OUTER.example:8080/ls/data/upload/1/a.png"),
        ("http://outer.example:8080/ls/", "http://outer.example:8080/data/upload/1/a.png"),
        ("http://outer.example/ls", "/ls/data/upload/1/a.png"),
        ("http://localhost:8080", "http://127.0.0.1:8080/data/upload/1/a.png"),
        ("http://localhost:8080", " //localhost:8080/data/upload/1/a.png"),
    ],
)
@pytest.mark.parametrize("path", ["", "/inner"])
def test_label_studio_may_call_itself_otherwise(studio: FakeLabelStudio, told: str, url: str, path: str) -> None:
    """Between containers, say. It is asked where the settings say, whatever it is called."""
    studio.files[f"{path}/data/upload/1/a.png"] = png()
    images = loader(studio, label_studio_url=studio.url + path)
    image = images.load(url, hostname=None, token=None, told=told)
    assert np.array_equal(image, RED)
    assert studio.requests == [("GET", f"{path}/data/upload/1/a.png", f"Token {LEGACY}")]
    assert images.fetch(url, hostname=None, token=None, told=told) == png()


@pytest.mark.parametrize("name", ["http://localhost", "//localhost", "HTTP://127.0.0.1"])
@pytest.mark.parametrize("told", ["", "http://outer.example"])
def test_every_name_of_this_machine_is_label_studios(studio: FakeLabelStudio, name: str, told: str) -> None:
    url = f"{name}:{studio.url.rpartition(':')[2]}/data/upload/1/a.png"
    assert np.array_equal(loader(studio).load(url, hostname=None, token=None, told=told), RED)
    settings = Settings(fetch_timeout_s=5.0, allow_private_addresses=True)
    assert np.array_equal(ImageLoader(settings).load(url, hostname=studio.url, token=LEGACY), RED)


@pytest.mark.parametrize(
    "url", ["http://outer.example:8081/a.png", "http://outer.example.evil/a.png", "http://a.example/a.png"]
)
def test_what_label_studio_does_not_call_itself_is_another_host(studio: FakeLabelStudio, url: str) -> None:
    with pytest.raises(ImageError, match="IHP_ALLOWED_HOSTS"):
        loader(studio).load(url, hostname=None, token=None, told="http://outer.example:8080")
    assert studio.requests == []


@pytest.mark.parametrize("told", ["http://[", "nonsense", "ftp://a.example", "http://user:x@a.example", "//", "/ls"])
def test_a_name_that_is_none_changes_nothing(studio: FakeLabelStudio, told: str) -> None:
    for url in ("/data/upload/1/a.png", f"{studio.url}/data/upload/1/a.png"):
        assert np.array_equal(loader(studio).load(url, hostname=None, token=None, told=told), RED)


def test_a_redirect_to_the_name_that_label_studio_has_for_itself(studio: FakeLabelStudio) -> None:
    studio.routes["/data/here.png"] = reply(302, Location="http://outer.example/data/upload/1/a.png")
    image = loader(studio).load("/data/here.png", hostname=None, token=None, told="http://outer.example")
    assert np.array_equal(image, RED)


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


# Limits


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


def test_too_many_pixels(studio: FakeLabelStudio) -> None:
    with pytest.raises(ImageError, match="IHP_MAX_IMAGE_PIXELS"):
        load(loader(studio, max_image_pixels=47), "/data/upload/1/a.png")


def test_an_unknown_and_a_closed_host() -> None:
    images = loader(allowed_hosts=("*",), allow_private_addresses=True)
    with pytest.raises(ImageError, match="not known"):
        load(images, "http://no-such-host.invalid/x.png")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ImageError, match="cannot be reached"):
        load(images, f"http://127.0.0.1:{port}/x.png")


def test_a_slow_download_does_not_block_others_and_is_shared(studio: FakeLabelStudio) -> None:
    studio.files["/data/slow.png"] = png()
    images = loader(studio)
    load(images, "/data/upload/1/a.png")
    studio.delay_s = 0.8
    found: list[Any] = []
    threads = [Thread(target=lambda: found.append(load(images, "/data/slow.png"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    started = time.monotonic()
    load(images, "/data/upload/1/a.png")
    assert time.monotonic() - started < 0.4
    for thread in threads:
        thread.join()
    assert studio.paths().count("/data/slow.png") == 1
    assert found[0] is found[1] is found[2]


# Local files and data URLs


def test_local_files_are_read_below_their_root_only(studio: FakeLabelStudio, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    (root / "deep").mkdir(parents=True)
    (root / "deep/a b.png").write_bytes(png())
    (tmp_path / "secret.png").write_bytes(png())
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(root / "pipe.png")
    images = loader(studio, local_files_root=root)
    assert np.array_equal(load(images, "/data/local-files/?d=" + quote("deep/a b.png")), RED)
    for name in ("../secret.png", "link.png", "/etc/passwd", "deep", "pipe.png", "none.png", "", "a\0b"):
        with pytest.raises(ImageError):
            load(images, "/data/local-files/?d=" + quote(name))
    assert studio.requests == []
    # As Label Studio takes them: from the root on, the last one, and with the backslashes of a Windows machine.
    for query in ("d=/deep/a%20b.png", "d=//deep//a%20b.png", "d=deep/../deep/./a%20b.png", "d=none&d=deep/a%20b.png"):
        assert np.array_equal(load(images, f"/data/local-files/?{query}"), RED)
    assert np.array_equal(load(images, "/data/local-files/?d=" + quote("deep\\a b.png")), RED)
    assert np.array_equal(load(images, "/data/local-files?d=deep/a+b.png"), RED)
    for name in ("..\\secret.png", "/../../secret.png", "\\..\\secret.png"):
        with pytest.raises(ImageError):
            load(images, "/data/local-files/?d=" + quote(name))
    assert studio.requests == []


def test_a_pipe_is_no_local_file_even_where_an_image_comes_out_of_it(studio: FakeLabelStudio, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    both_ends = os.open(tmp_path / "pipe.png", os.O_RDWR)
    try:
        os.write(both_ends, png())
        with pytest.raises(ImageError, match="is not a file"):
            load(loader(studio, local_files_root=tmp_path), "/data/local-files/?d=pipe.png")
    finally:
        os.close(both_ends)


def test_local_files_come_through_label_studio_where_no_root_is_set(studio: FakeLabelStudio) -> None:
    studio.files["/data/local-files/?d=deep/a.png"] = png()
    assert np.array_equal(load(loader(studio), "/data/local-files/?d=deep/a.png"), RED)


def test_data_urls() -> None:
    images = loader()
    coded = base64.b64encode(png()).decode()
    assert np.array_equal(load(images, f"data:image/png;base64,{coded}"), RED)
    assert np.array_equal(load(images, f"data:image/png;base64,{quote(coded)}"), RED)
    assert np.array_equal(load(images, f"data:image/png,{quote(png())}"), RED)
    for bad in ("data:image/png;base64", "data:image/png;base64,%%%", "data:,", "data:text/plain,hello"):
        with pytest.raises(ImageError):
            load(images, bad)
    with pytest.raises(ImageError, match="IHP_MAX_IMAGE_BYTES"):
        load(loader(max_image_bytes=40), f"data:image/png;base64,{coded}")


def test_a_label_studio_below_a_path(studio: FakeLabelStudio) -> None:
    studio.files["/ls/data/upload/1/a.png"] = png()
    images = loader(studio, label_studio_url=f"{studio.url}/ls")
    assert np.array_equal(load(images, "/data/upload/1/a.png"), RED)
    assert load(images, "/ls/data/upload/1/a.png").shape == RED.shape


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
