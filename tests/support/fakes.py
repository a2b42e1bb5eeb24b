"""A host that hands out images, a model that draws discs, and requests that a real Label Studio sent."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.clicks import Click
from ihp_backend.inference.prompts import Prompts
from ihp_backend.parts import LIP

GOLDEN = Path(__file__).parents[1] / "golden"


TOKEN = "0123456789abcdef0123456789abcdef01234567"


def golden(name: str) -> Any:
    """Returns a fresh copy of a request that a real Label Studio sent."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def png(width: int = 640, height: int = 480) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


if TYPE_CHECKING:  # a fake fits the real types, without torch
    from ihp_backend.inference.people import People
    from ihp_backend.inference.photo_session import PhotoSession
    from ihp_backend.inference.prediction import Parse, Prediction
    from ihp_backend.inference.predictor import Predictor
else:
    People = PhotoSession = Parse = Predictor = object

    @dataclass
    class Prediction:
        masks: dict[str, NDArray[np.bool_]]
        scores: dict[str, float]
        people: Alone
        parse: Parse
        score: float = 0.75


class Alone(People):
    """The people of a photo: one."""

    def __init__(self) -> None:
        pass

    def on_others(self, mask: NDArray[np.bool_], clicks: Sequence[Click]) -> NDArray[np.bool_]:
        return np.zeros_like(mask)


@dataclass
class DiscModel(Predictor):
    """Answers each wanted label with discs around its positive clicks; without clicks, the left half."""

    version: str = "discs-1"
    schema = LIP
    calls: list[dict[str, Any]] = field(default_factory=list)
    prefetched: list[str] = field(default_factory=list)

    def open(self, image: NDArray[np.uint8], key: str | None = None) -> DiscSession:
        return DiscSession(self, image, key)

    def answer(self, image: NDArray[np.uint8], prompts: Prompts, key: str | None) -> Prediction:
        self.calls.append(
            {
                "options": {"suggest": prompts.suggest, "everyone": prompts.everyone},
                "clicks": list(prompts.clicks),
                "wanted": prompts.wanted,
                "earlier_clicks": list(prompts.earlier_clicks),
                "masks": dict(prompts.masks),
                "boxes": dict(prompts.boxes),
                "key": key,
            }
        )
        rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
        masks = {
            label: np.zeros(image.shape[:2], bool)
            for label in (prompts.labels or () if prompts.wanted is None else prompts.wanted)
        }
        for label, mask in masks.items():
            for click in prompts.clicks:
                if click.part == label and click.is_positive:
                    mask |= (columns - click.x) ** 2 + (rows - click.y) ** 2 < 20**2
            if prompts.wanted is None:
                mask[:, : image.shape[1] // 2] = True
        return Prediction(masks, dict.fromkeys(masks, 0.75), Alone(), Parse.__new__(Parse))


@dataclass
class DiscSession(PhotoSession):
    """A photo that is open; all of its answers come from ``DiscModel.answer``."""

    model: DiscModel
    image: NDArray[np.uint8]
    key: str | None

    def predict(self, prompts: Prompts) -> Prediction:
        return self.model.answer(self.image, prompts, self.key)

    def prefetch(self) -> list[Callable[[], None]]:
        return [lambda: self.model.prefetched.append(str(self.key))]


class ImageHost:
    """Serves files on loopback; those below /data/ only to who shows the token."""

    def __init__(self) -> None:
        good = png()
        self.files = {
            "/data/upload/1/ea083baf-test.png": good,
            "/data/upload/2/d902d92d-test.png": good,
            "/data/upload/4/54e9bb52-test.png": good,
            "/data/upload/1/truncated.png": good[: len(good) // 2],
            "/data/upload/1/text.png": b"<html>this is not an image</html>",
            "/data/upload/1/large.png": png(2000, 1600),
        }
        self.delay_s = 0.0
        self.requests: list[str] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.requests.append(self.path)
                time.sleep(host.delay_s)
                body = host.files.get(self.path)
                status = 200 if body else 404
                if self.path.startswith("/data/") and self.headers.get("Authorization") != f"Token {TOKEN}":
                    status = 401
                self.send_response(status)
                self.send_header("Content-Length", str(len(body or b"") if status == 200 else 0))
                self.end_headers()
                if status == 200 and body:
                    self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
