"""Who wants more than masks: other hosts, other files, secrets, the server's memory and time."""

from __future__ import annotations

import gzip
import io
import logging
import re
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from backend import json_of, make, set_up, with_image
from fake_label_studio import LEGACY, FakeLabelStudio, reply
from fakes import TOKEN, ImageHost, golden
from PIL import Image

from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.label_studio.client import Client
from ihp_backend.label_studio.fetching import is_public
from ihp_backend.label_studio.image_decoding import ImageError, decode_image
from ihp_backend.label_studio.images import ImageLoader
from ihp_backend.learning.registry import BASE, Registry, RegistryError
from ihp_backend.settings import Settings, SettingsError

PACKAGE = Path(__file__).parents[1] / "ihp_backend"
SECRET = "s3cr3t-value"


def png(width: int = 8, height: int = 6) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def studio() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as fake:
        yield fake


@pytest.fixture
def inside() -> Iterator[FakeLabelStudio]:
    """A service of the private network, which hands out its picture to anybody."""
    with FakeLabelStudio() as fake:
        fake.routes["/secret.png"] = lambda handler: reply(handler, 200, png())
        yield fake


def load(images: ImageLoader, url: str, studio: FakeLabelStudio | None = None) -> Any:
    return images.load(url, hostname=studio.url if studio else None, token=LEGACY)


# Other hosts

LOOPBACK = [
    "http://127.0.0.1:{}",
    "http://127.1:{}",
    "http://2130706433:{}",
    "http://0x7f000001:{}",
    "http://0177.0.0.1:{}",
    "http://0.0.0.0:{}",
    "http://localhost:{}",
    "http://LOCALHOST.:{}",
    "http://①②⑦.⓪.⓪.①:{}",
    "http://[::ffff:127.0.0.1]:{}",
    "http://[::ffff:7f00:1]:{}",
    "http://[::1]:{}",
    "http://[::]:{}",
    "http://a.example@127.0.0.1:{}",
    "http://127.0.0.1:{}#@a.example",
    "http://127.0.0.1:{}\\@a.example",
    "http:\\\\127.0.0.1:{}",
    "gopher://127.0.0.1:{}",
    "file:///etc/passwd?{}",
]


@pytest.mark.parametrize("address", LOOPBACK)
def test_no_spelling_of_a_private_address_is_fetched(inside: FakeLabelStudio, address: str) -> None:
    with pytest.raises(ImageError):
        load(ImageLoader(Settings(allowed_hosts=("*",))), address.format(inside.port) + "/secret.png")
    assert inside.requests == []


@pytest.mark.parametrize("address", [*LOOPBACK, "http://169.254.169.254/latest/meta-data/{}", "//127.0.0.1:{}"])
def test_nor_is_one_that_a_redirect_names(inside: FakeLabelStudio, studio: FakeLabelStudio, address: str) -> None:
    """Label Studio's own address may be private; where it sends us to may not."""
    target = (address.format(inside.port) + "/secret.png").encode("utf-8", "replace").decode("latin-1")
    studio.routes["/data/a.png"] = lambda handler: reply(handler, 302, b"", Location=target)
    settings = Settings(allowed_hosts=("*",), label_studio_url=studio.url, fetch_timeout_s=2)
    with pytest.raises(ImageError):
        load(ImageLoader(settings), "/data/a.png", studio)
    assert inside.requests == []


@pytest.mark.parametrize(
    "address",
    [
        "64:ff9b::7f00:1",  # IPv4 behind NAT64
        "64:ff9b:1::a00:1",
        "::7f00:1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "240.0.0.1",
    ],
)
def test_addresses_that_lead_inside_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_a_name_that_means_both_is_connected_to_where_it_is_public(
    monkeypatch: pytest.MonkeyPatch, inside: FakeLabelStudio
) -> None:
    connected: list[Any] = []
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("127.0.0.1", "93.184.216.34")]

    def connect(self: socket.socket, address: Any) -> None:
        connected.append(address[0])
        raise OSError("no route")

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(ImageError):
        load(ImageLoader(Settings(allowed_hosts=("*",))), "http://both.example/secret.png")
    assert connected == ["93.184.216.34"]


def test_a_stranger_cannot_name_a_label_studio_inside(tmp_path: Path, inside: FakeLabelStudio) -> None:
    """Where anybody may call, /setup may name any host: it must not become a way inside."""
    strangers = {"IHP_HOST": "0.0.0.0", "IHP_ALLOW_ANONYMOUS": "true", "IHP_ALLOW_PRIVATE_ADDRESSES": "false"}
    client, _ = make(tmp_path, None, **strangers)
    assert set_up(client, inside.url).status_code == 200
    answer = client.post("/predict", json=with_image("/secret.png"))
    assert json_of(answer)["results"][0]["result"] == []
    assert inside.requests == []


# Memory and time


def test_a_body_that_unpacks_is_not_unpacked(studio: FakeLabelStudio) -> None:
    """Nothing compressed is asked for; what comes compressed all the same is no image."""
    bomb = gzip.compress(bytes(20_000_000))
    encoding = {"Content-Encoding": "gzip"}
    studio.routes["/data/a.png"] = lambda handler: reply(handler, 200, bomb, **encoding)
    with pytest.raises(ImageError, match="not an image"):
        load(ImageLoader(Settings(max_image_bytes=1_000_000)), "/data/a.png", studio)


def chunked(handler: BaseHTTPRequestHandler) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"2710\r\n" + b"x" * 10_000 + b"\r\n")


def endless_header(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        handler.wfile.write(b"x" * 10_000)


def many_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X: y\r\n" * 1000)


def dripping_header(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(100):
        handler.wfile.write(b"X: y\r\n")
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [chunked, endless_header, many_headers, dripping_header])
def test_answers_that_do_not_end_are_cut(studio: FakeLabelStudio, answer: Any) -> None:
    studio.routes["/data/a.png"] = answer
    began = time.monotonic()
    with pytest.raises(ImageError):
        load(ImageLoader(Settings(max_image_bytes=100_000, fetch_timeout_s=1)), "/data/a.png", studio)
    assert time.monotonic() - began < 4


def claims(kind: str, width: int, height: int) -> bytes:
    """A small file that says it has many pixels."""
    if kind == "png":
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
        body = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
        return b"\x89PNG\r\n\x1a\n" + b"".join(body)
    if kind == "bmp":
        info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
        return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info
    if kind == "gif":
        return b"GIF89a" + struct.pack("<HHBBB", width & 0xFFFF, height & 0xFFFF, 0, 0, 0) + b";"
    return f"P6 {width} {height} 255\n".encode()


@pytest.mark.parametrize("kind", ["png", "bmp", "gif", "ppm"])
@pytest.mark.parametrize("size", [(60_000, 60_000), (2**30, 1), (65_535, 20_000)])
def test_a_small_file_with_many_pixels_takes_no_memory(kind: str, size: tuple[int, int]) -> None:
    before = peak_kb()
    with pytest.raises(ImageError):
        decode_image(claims(kind, *size), max_pixels=10_000_000)
    assert peak_kb() - before < 100_000


def peak_kb() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


# Files


@pytest.mark.parametrize("name", ["..", "../../base", "/etc", "a/b", "", ".lock", "a\0b", "x" * 5000])
def test_a_version_s_name_never_leaves_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "base").mkdir()
    registry = Registry(tmp_path / "versions")
    with pytest.raises(RegistryError):
        registry.promote("1.1", name)
    assert registry.current("1.1") == BASE
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["base"]


@pytest.mark.parametrize("project", ["../../etc", "..", ".", "a/b", "a\0b", "x" * 5000])
@pytest.mark.parametrize("route", ["/predict", "/setup", "/webhook", "/versions"])
def test_a_project_s_name_never_leaves_its_folder(
    tmp_path: Path, image_host: ImageHost, project: str, route: str
) -> None:
    home = tmp_path / "deep" / "data"
    client, _ = make(home)
    if route == "/versions":
        answer = client.get(route, query_string={"project": project})
    else:
        recorded = {"/webhook": "webhook_start_training", "/predict": "predict_click", "/setup": "setup"}
        body = golden(recorded[route])
        answer = client.post(route, json=body | {"project": {"id": project} if route == "/webhook" else project})
    assert answer.status_code in (200, 400)
    outside = [path for path in tmp_path.rglob("*") if not path.is_relative_to(home) and not home.is_relative_to(path)]
    assert outside == []


# Secrets


def test_a_secret_in_an_address_is_in_no_message(studio: FakeLabelStudio) -> None:
    images = ImageLoader(Settings(allowed_hosts=("*",)))
    studio.routes["/data/a.png"] = lambda handler: reply(
        handler, 302, b"", Location=f"http://u:{SECRET}@a.example/x?sig={SECRET}#{SECRET}"
    )
    for url in (
        f"http://user:{SECRET}@a.example/x.png",
        f"http://{SECRET}@a.example/x.png",
        f"http://127.0.0.1:1/x.png?X-Amz-Signature={SECRET}",
        f"ftp://user:{SECRET}@a.example/x.png#{SECRET}",
        f"http://a.example:99999/x?{SECRET}",
        f"//user:{SECRET}@127.0.0.1/x.png",
        "/data/a.png",
        f"/data/b.png?token={SECRET}",
    ):
        with pytest.raises(ImageError) as caught:
            load(images, url, studio)
        assert SECRET not in str(caught.value)
    with pytest.raises(ImageError) as caught:
        load(images, f"/data/b.png?token={SECRET}", None)  # Label Studio's address is not known
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "token", [f"{SECRET}\r\nX: y", f"{SECRET}\nHost: b", f"{SECRET} x", f"{SECRET}\u201d", f"{SECRET}\0"]
)
def test_a_token_that_is_none_is_neither_sent_nor_shown(
    studio: FakeLabelStudio, tmp_path: Path, caplog: pytest.LogCaptureFixture, token: str
) -> None:
    with pytest.raises(LabelStudioError) as caught:
        Client(studio.url, token, timeout_s=2).whoami()
    assert SECRET not in str(caught.value)
    client, _ = make(tmp_path)
    with caplog.at_level(logging.DEBUG):
        set_up(client, studio.url, token=token)
        answer = client.post("/predict", json=golden("predict_click"))
    assert answer.status_code == 200
    assert studio.requests == []
    assert SECRET not in caplog.text + answer.text


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(SettingsError, match="IHP_LABEL_STUDIO_URL") as caught:
        Settings.from_environment({"IHP_LABEL_STUDIO_URL": f"http://user:{SECRET}@127.0.0.1:8080"})
    assert SECRET not in str(caught.value)
    told = Settings(
        label_studio_token=SECRET, basic_auth_user="a", basic_auth_password=SECRET, queue_url=f"redis://:{SECRET}@a"
    )
    assert SECRET not in repr(told)


def test_no_log_line_has_a_secret_whatever_goes_wrong(
    tmp_path: Path, image_host: ImageHost, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"IHP_BASIC_AUTH_USER": "u", "IHP_BASIC_AUTH_PASSWORD": SECRET}
    client, runtime = make(tmp_path, None, **settings)
    with caplog.at_level(logging.DEBUG):
        for password in (SECRET, SECRET[:-1], ""):
            for url in ("/data/upload/1/none.png", "/data/upload/1/text.png", f"http://a.example/x?sig={TOKEN}"):
                client.post("/setup", json=golden("setup") | {"hostname": image_host.url}, auth=("u", password))
                client.post("/predict", json=with_image(url), auth=("u", password))
                client.get(f"/versions?project=1&token={TOKEN}", auth=("u", password))
        runtime.images.load = None  # type: ignore[method-assign, assignment]  # a fault of ours, with a traceback
        broken = client.post("/predict", json=golden("predict_click"), auth=("u", SECRET))
    assert broken.status_code == 500
    assert "Traceback" in caplog.text
    for secret in (SECRET, SECRET[:-1], TOKEN, golden("setup")["access_token"]):
        assert not secret or secret not in caplog.text
    assert SECRET not in broken.text


def test_the_password_is_compared_in_constant_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr("hmac.compare_digest", compare)
    client, _ = make(tmp_path, IHP_BASIC_AUTH_USER="u", IHP_BASIC_AUTH_PASSWORD="p")
    for given in (("u", "p"), ("u", "q"), ("", ""), ("ü", "€")):
        assert client.get("/health", auth=given).status_code == (200 if given == ("u", "p") else 401)
    assert client.get("/health").status_code == 401
    assert client.get("/health", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 401
    assert len(compared) == 6
    assert {b for _, b in compared} == {b"u:p"}


# Weights


def test_nothing_unpickles() -> None:
    state = r"torch\.load(?!\(last, map_location=self\.device, weights_only=True)"  # of a training: plain tensors only
    unsafe = re.compile(
        rf"\bpickle\.|import pickle|{state}|allow_pickle=True|\bmarshal\b|\beval\(|\bexec\(|yaml\.load\(|shell=True"
    )
    for path in PACKAGE.rglob("*.py"):
        code = re.sub(r'""".*?"""|#.*', "", path.read_text(), flags=re.DOTALL).replace(".eval()", "")
        assert not unsafe.search(code), f"{path.name} has {unsafe.search(code)}"


def test_one_slow_host_does_not_keep_others_waiting(tmp_path: Path, image_host: ImageHost) -> None:
    """A request that waits for its photo leaves the probes and other clicks alone."""
    client, runtime = make(tmp_path)
    set_up(client, image_host.url)
    assert json_of(client.post("/predict", json=golden("predict_click")))["results"][0]["result"]
    image_host.delay_s = 1.5
    slow = Thread(
        target=lambda: runtime.images.load(
            f"{image_host.url}/data/upload/1/large.png", hostname=image_host.url, token=TOKEN
        )
    )
    slow.start()
    began = time.monotonic()
    assert json_of(client.post("/predict", json=golden("predict_click")))["results"][0]["result"]
    assert time.monotonic() - began < 1.4
    slow.join()
