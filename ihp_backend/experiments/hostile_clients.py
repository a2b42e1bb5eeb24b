"""Clients that mean harm: each kind of request that has hurt a server of this sort, one after the other."""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from functools import cache, partial
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests
from PIL import Image

from ihp_backend.demo.project import label_config_of
from ihp_backend.label_studio.rle import encode

CLOSED = "closed"
"""Where no answer came: the connection was closed."""
_TIMEOUT_S = 120
_HALVES = 25
_POST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_GET = b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Outcomes:
    """What came of hostile requests: how often each answer to each kind. May be shared between threads."""

    def __init__(self) -> None:
        self.by_kind: dict[str, Counter[str]] = {}
        self._lock = Lock()

    def note(self, kind: str, outcomes: Iterable[str]) -> None:
        """Counts answers, as status codes or ``CLOSED``."""
        with self._lock:
            self.by_kind.setdefault(kind, Counter()).update(outcomes)

    def broken(self) -> list[str]:
        """Names the kinds that made the server fail: with a status of 500 or above that is not 503."""
        return [
            f"{kind}: {count} answers with {status}"
            for kind, counts in sorted(self.by_kind.items())
            for status, count in sorted(counts.items())
            if status >= "500" and status.isdecimal() and status != "503"
        ]

    def lines(self) -> list[str]:
        """Returns a line for each kind."""
        return [
            f"{kind}: {sum(counts.values())} tried: "
            + ", ".join(f"{count} x {status}" for status, count in sorted(counts.items()))
            for kind, counts in sorted(self.by_kind.items())
        ]


def attack(url: str, outcomes: Outcomes, who: int, until: float) -> None:
    """Tries one kind after the other, from another one on for each client.

    Args:
        url: The server.
        outcomes: Is told what came of it.
        who: The client's number.
        until: By the monotonic clock; the kind that runs then is finished.
    """
    kinds = list(KINDS)
    turn = who * len(kinds) // 4
    while time.monotonic() < until:
        kind = kinds[turn % len(kinds)]
        try:
            outcomes.note(kind, KINDS[kind](url, turn))
        except (OSError, requests.RequestException):
            outcomes.note(kind, [CLOSED])
            time.sleep(0.1)
        turn += 1


# Requests that never end


def _held(url: str, begin: bytes, hold_s: float, drip: bytes = b"") -> list[str]:
    """Opens connections that send a beginning, perhaps a letter now and then, and what each is answered in the end."""
    parts = urlsplit(url)
    found = []
    with ExitStack() as stack:
        opened = []
        for _ in range(_HALVES):
            with suppress(OSError):
                connection = stack.enter_context(socket.create_connection((parts.hostname, parts.port), 10))
                connection.sendall(begin)
                opened.append(connection)
        end = time.monotonic() + hold_s
        while time.monotonic() < end:
            time.sleep(0.5)
            for connection in opened if drip else ():
                with suppress(OSError):
                    connection.sendall(drip)
        for connection in opened:
            try:
                connection.settimeout(0.2)
                last = connection.recv(1 << 16).rpartition(b"HTTP/1.1 ")[2][:3].decode("latin-1")
                found.append(last or CLOSED)
            except TimeoutError:
                found.append("still waiting")
            except OSError:
                found.append(CLOSED)
    return found


def _not_read(url: str, turn: int) -> list[str]:
    """Asks again and again without reading an answer."""
    parts = urlsplit(url)
    body = json.dumps(_request(_photo(64))).encode()
    with socket.create_connection((parts.hostname, parts.port), 10) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.settimeout(5)
        with suppress(OSError):
            for _ in range(20):
                opened.sendall(_POST % len(body) + body)
        time.sleep(3)
    return ["not read"]


# Requests that are whole


def _request(image: str, drafts: Any = (), **changes: Any) -> dict[str, Any]:
    keypoint = {
        "id": "k1",
        "type": "keypointlabels",
        "from_name": "click",
        "to_name": "image",
        "is_positive": True,
        "value": {"x": 50, "y": 13, "width": 0.3, "keypointlabels": ["Face"]},
    }
    return {
        "tasks": [{"id": 1, "data": {"image": image}, "drafts": list(drafts), "annotations": []}],
        "project": "1.1",
        "label_config": label_config_of("lip"),
        "params": {"context": {"result": [keypoint]}},
    } | changes


def _posted(url: str, body: Any, route: str = "/predict", **headers: str) -> list[str]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Type": "application/json", "Connection": "close"} | headers
    return [str(requests.post(f"{url}{route}", data, headers=given, timeout=_TIMEOUT_S).status_code)]


def _data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _new(url: str, turn: int) -> str:
    """The same data as an address that is in no cache."""
    return url.replace(";base64", f";n={turn};base64", 1)


@cache
def _photo(side: int, mode: str = "L", kind: str = "png", **options: Any) -> str:
    """An image of one colour: a few kilobytes for any number of pixels."""
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, kind, **options)
    return _data_url(file.getvalue(), kind)


@cache
def _bmp_with_run_lengths(side: int) -> str:
    rows = b"\x01\x01\x00\x00" * side + b"\x00\x01"  # each ends after a pixel
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(rows), 0, 0, 256, 0)
    begin = 14 + len(head) + 1024
    return _data_url(b"BM" + struct.pack("<IHHI", begin + len(rows), 0, 0, begin) + head + bytes(1024) + rows, "bmp")


@cache
def _jpeg_of_many_scans() -> str:
    file = io.BytesIO()
    Image.new("RGB", (3_000, 3_000)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    begin = data.index(b"\xff\xda")
    return _data_url(data[:begin] + data[begin:-2] * 40 + b"\xff\xd9", "jpeg")


@cache
def _draft(count: int, side: int, rle: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """A draft with so many masks of a photo, in stripes."""
    mask = np.zeros((side, side), bool)
    mask[::2] = True
    value = {"format": "rle", "rle": list(rle) or encode(mask), "brushlabels": ["Face"]}
    region = {"type": "brushlabels", "from_name": "mask", "to_name": "image", "value": value}
    size = {"original_width": side, "original_height": side}
    return [{"id": 1, "updated_at": "1", "result": [region | size | {"id": f"r{n}"} for n in range(count)]}]


@cache
def _json_of(piece: bytes, count: int) -> bytes:
    return b'{"tasks":[' + piece * count + b"1]}"


def _deep(turn: int) -> bytes:
    begin, end = ((b"[", b"]"), (b'{"a":', b"}"))[turn % 2]
    depth = (101, 500, 970, 20_000)[turn % 4]
    return b'{"tasks":' + begin * depth + b"1" + end * depth + b"}"


_GARBAGE = (b"", b"{", b"\xff\xfe\x00", b"[]", b"null", b'{"tasks":[', b'{"tasks":{}}', b'"' * 1000, b"NaN", b"{}{}")
_STRANGE_HEADS = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"b" * 100_000,
    b"\x16\x03\x01" * 100 + b"\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n",
)


def _setup(**changes: str) -> dict[str, str]:
    return {"project": "1.1", "schema": label_config_of("lip"), "hostname": "", "access_token": ""} | changes


def _invented(turn: int) -> dict[str, Any]:
    action = ("START_TRAINING", "ANNOTATION_CREATED")[turn % 2]
    project = {"id": 10_000 + turn, "created_at": "2024-01-01T00:00:00Z", "label_config": label_config_of("lip")}
    return {"action": action, "project": project, "annotation": {"id": turn}}


def _predict(image: Callable[[], str], draft: Callable[[], Any] = tuple) -> Callable[[str, int], list[str]]:
    return lambda url, turn: _posted(url, _request(_new(image(), turn), draft()))


KINDS: dict[str, Callable[[str, int], list[str]]] = {
    "half a head, held 12 s": lambda url, turn: _held(url, b"POST /predict HTTP/1.1\r\nHost:", 12),
    "half a body, held 12 s": lambda url, turn: _held(url, _POST % 1_000_000 + b"{", 12),
    "a body letter by letter, for 25 s": lambda url, turn: _held(url, _POST % 1_000_000, 25, b" "),
    "half a request behind a whole one": lambda url, turn: _held(url, _GET + _POST % 1000 + b"{", 12),
    "no HTTP, long or contradicting heads": lambda url, turn: _held(url, _STRANGE_HEADS[turn % 5], 2),
    "answers that are not read": _not_read,
    "30 MB of empty lists": lambda url, turn: _posted(url, _json_of(b"[],", 10_000_000)),
    "5 MB of empty objects": lambda url, turn: _posted(url, _json_of(b"{},", 1_700_000)),
    "60 MB of text": lambda url, turn: _posted(url, _json_of(b'"%s",' % (b"A" * 6_000_000), 10)),
    "JSON nested 101 to 20,000 deep": lambda url, turn: _posted(
        url, _deep(turn), ("/predict", "/setup", "/webhook")[turn % 3]
    ),
    "what is not JSON, or no request": lambda url, turn: _posted(url, _GARBAGE[turn % len(_GARBAGE)]),
    "a label config nested 1,000 deep": lambda url, turn: _posted(
        url, _setup(schema="<View>" * 1000 + "</View>" * 1000), "/setup"
    ),
    "a BMP with run lengths, 81 megapixels": _predict(partial(_bmp_with_run_lengths, 9_000)),
    "a JPEG of hundreds of scans": _predict(_jpeg_of_many_scans),
    "a PNG with alpha, 81 megapixels": _predict(partial(_photo, 9_000, "LA")),
    "a GIF of 81 megapixels": _predict(partial(_photo, 9_000, "L", "gif")),
    "a TIFF of 81 megapixels": _predict(partial(_photo, 9_000, "L", "tiff", compression="tiff_deflate")),
    "a WebP of 64 megapixels": _predict(partial(_photo, 8_000, "RGB", "webp")),
    "a draft of 600 masks": _predict(partial(_photo, 64), partial(_draft, 600, 64)),
    "a draft of 20 masks, 16 megapixels": _predict(partial(_photo, 4_000), partial(_draft, 20, 4_000)),
    "a mask of 4 billion pixels": _predict(partial(_photo, 64), partial(_draft, 1, 64, (255,) * 100_000)),
    "a page of another name": lambda url, turn: _posted(url, _request(_photo(64)), Host="evil.example"),
    "a page of another origin": lambda url, turn: _posted(url, _setup(), "/setup", Origin="http://evil.example"),
    "events of invented projects": lambda url, turn: _posted(url, _invented(turn), "/webhook"),
    "an image on another machine": lambda url, turn: _posted(url, _request("http://169.254.169.254/latest/meta-data")),
}
"""What is tried: each sends its requests to a server and returns what came of them; the turn makes them differ."""
