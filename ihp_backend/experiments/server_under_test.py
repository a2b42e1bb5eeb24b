"""`ihp serve` in a process of its own, with drawn photos, asked as Label Studio asks it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import requests

from ihp_backend.data.synthetic import draw_person
from ihp_backend.demo.project import label_config_of

_TOKEN = "0" * 40
PLACES = {"Face": (0.5, 0.13), "Upper-clothes": (0.5, 0.36), "Left-arm": (0.57, 0.42), "Left-shoe": (0.54, 0.95)}


def draw_photo(width: int, height: int, number: int = 0) -> bytes:
    """Draws a person before a noisy wall and returns a JPEG; the person is as high as the photo."""
    person, _ = draw_person(np.random.default_rng(number), 480, 320)
    scale = height / 480
    person = cv2.resize(person, (round(320 * scale), height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    margin = max(0, width - person.shape[1])
    photo = cv2.copyMakeBorder(person, 0, 0, margin // 2, margin - margin // 2, cv2.BORDER_REPLICATE)[:, :width]
    grain = np.random.default_rng(number).integers(0, 12, (height, width, 1), np.uint8)
    photo = cv2.add(photo, np.repeat(grain, 3, axis=2))
    done, code = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert done
    return code.tobytes()


class _Photos:
    """Hands out photos on loopback: any name gives the photo of its size, so a new name is a photo never seen."""

    def __init__(self, photos: dict[str, bytes]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = photos.get(self.path.split("/")[2], b"")
                self.send_response(200 if body else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


class ServerUnderTest:
    """`ihp serve` in a process of its own, and the requests that Label Studio would send it."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], ready_s: float) -> None:
        self.url, self.process, self.ready_s = url, process, ready_s
        self._local = threading.local()
        self._sessions: list[requests.Session] = []

    def predict(
        self,
        photo: str,
        clicks: Sequence[tuple[str, float, float, bool]] | None,
        task: int = 1,
        label_config: str = "",
        accepted: Sequence[dict[str, Any]] = (),
    ) -> Any:
        """Asks for a photo's parts (``None``) or for what is clicked: label, x and y as shares, positive.

        ``accepted`` are the regions that the draft holds already.
        """
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            self._sessions.append(session)
        context = None
        if clicks is not None:
            context = {"result": [_keypoint(number, *click) for number, click in enumerate(clicks)]}
        drafts = [{"id": 1, "result": list(accepted)}] if accepted else []
        body = {
            "tasks": [{"id": task, "data": {"image": f"/data/{photo}"}, "drafts": drafts, "annotations": []}],
            "project": "1.1",
            "label_config": label_config or label_config_of("lip"),
            "params": {"context": context},
        }
        answer = session.post(f"{self.url}/predict", json=body, timeout=120)
        answer.raise_for_status()
        result = answer.json()["results"][0]["result"]
        if not result:
            raise RuntimeError(f"no mask for {photo}: {answer.text[:300]}")
        return result

    def close(self) -> None:
        """Closes the connections."""
        for session in self._sessions:
            session.close()

    def memory_mb(self) -> float:
        """Resident memory of the server's processes now, in MB."""
        return self._status_mb("VmRSS")

    def peak_mb(self) -> float:
        """Greatest resident memory of the server's processes so far, in MB."""
        return self._status_mb("VmHWM")

    def workers(self) -> set[int]:
        """Ids of the server's own processes: another one, where one has stopped."""
        return set(_children(self.process.pid, deep=False))

    def _status_mb(self, name: str) -> float:
        own = [self.process.pid, *_children(self.process.pid)]
        lines = [line for pid in own for line in lines_of(f"/proc/{pid}/status") if line.startswith(name)]
        return sum(int(line.split()[1]) for line in lines) / 1000


def _children(pid: int, *, deep: bool = True) -> list[int]:
    # Of all threads: who starts a process is its parent.
    text = " ".join(line for path in Path(f"/proc/{pid}/task").glob("*/children") for line in lines_of(str(path)))
    found = [int(child) for child in text.split()]
    return [*found, *(grandchild for child in found for grandchild in _children(child))] if deep else found


def _keypoint(number: int, label: str, x: float, y: float, is_positive: bool) -> dict[str, Any]:
    value = {"x": 100 * x, "y": 100 * y, "width": 0.3, "keypointlabels": [label]}
    ends = {"from_name": "click", "to_name": "image", "type": "keypointlabels"}
    return {"id": f"k{number}", "is_positive": is_positive, "value": value, **ends}


@contextmanager
def serving(photos: dict[str, bytes], weights: str) -> Iterator[ServerUnderTest]:
    """Starts the server and waits until its model is loaded."""
    source = _Photos(photos)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("IHP_")} | {
            "IHP_LABEL_STUDIO_URL": source.url,
            "IHP_LABEL_STUDIO_TOKEN": _TOKEN,
            "IHP_WEIGHTS": weights,
            "IHP_DATA_DIR": folder,
            "IHP_LOG_LEVEL": "ERROR",
            **{name: value for name, value in os.environ.items() if name in ("IHP_THREADS", "IHP_TORCH_THREADS")},
        }
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "ihp_backend", "serve", "--port", str(port)], env=environ)
        try:
            url = f"http://127.0.0.1:{port}"
            while time.perf_counter() - start < 120:
                if process.poll() is not None:
                    raise RuntimeError("the server stopped while it started; `ihp serve` shows why")
                try:
                    if requests.get(f"{url}/ready", timeout=1).status_code == 200:
                        break
                except requests.RequestException:
                    pass
                time.sleep(0.02)
            with closing(ServerUnderTest(url, process, time.perf_counter() - start)) as server:
                yield server
        finally:
            process.terminate()
            process.wait(30)
            source.server.shutdown()
            source.server.server_close()


def place(label: str, number: int) -> tuple[str, float, float, bool]:
    """A click on a part, each number a little elsewhere: nobody has asked exactly this before."""
    x, y = PLACES[label]
    return label, x + 1e-4 * (number % 100), y + 1e-4 * (number // 100), True


def lines_of(path: str) -> list[str]:
    """Returns the lines of a file; none if it is not there."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
