"""Hosts of a red photo, and what loads it from them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
from fake_label_studio import LEGACY, FakeLabelStudio
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.label_studio.images import ImageLoader
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


@contextmanager
def studio_with_photo() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as fake:
        fake.files["/data/upload/1/a.png"] = png()
        yield fake


@contextmanager
def host_with_photo() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as fake:
        fake.routes["/b.png"] = reply(200, png())
        yield fake


def loader(studio: FakeLabelStudio | None = None, **settings: Any) -> ImageLoader:
    known = {"label_studio_url": studio.url, "label_studio_token": LEGACY} if studio else {}
    return ImageLoader(Settings(**{"fetch_timeout_s": 5.0, **known, **settings}))


def load(images: ImageLoader, url: str, **told: Any) -> NDArray[np.uint8]:
    return images.load(url, hostname=told.get("hostname"), token=told.get("token"))
