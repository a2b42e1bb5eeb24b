"""How fast it is: the server as Label Studio meets it, over HTTP on this machine, and its stages one by one.

Photos are drawn, clicks are scripted, every figure is the median and the 95th percentile of many runs after a warm-up.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import requests
import torch
from numpy.typing import NDArray

from ihp_backend import __version__
from ihp_backend.clicks import Click
from ihp_backend.data.synthetic import draw_person
from ihp_backend.demo.project import label_config_of
from ihp_backend.inference.postprocess.enforce_clicks import enforce_clicks
from ihp_backend.inference.postprocess.remove_small_regions import remove_small_regions
from ihp_backend.inference.prediction import Parse
from ihp_backend.inference.predictor import Predictor
from ihp_backend.label_studio.image_decoding import decode_image
from ihp_backend.label_studio.rle import decode, encode
from ihp_backend.network.click_maps import Point, localization_maps

SIZES = ((800, 600), (1024, 768), (4000, 3000))
"""Width and height of the photos."""
_TOKEN = "0" * 40
PLACES = {"Face": (0.5, 0.13), "Upper-clothes": (0.5, 0.36), "Left-arm": (0.57, 0.42), "Left-shoe": (0.54, 0.95)}


@dataclass(frozen=True)
class Row:
    """One line of the result: what, on what, how long in milliseconds, or how many a second."""

    what: str
    on: str
    median: float
    p95: float
    unit: str = "ms"


def draw_photo(width: int, height: int, number: int = 0) -> bytes:
    """Draws a person before a noisy wall and returns a JPEG; the figure is as high as the photo."""
    figure, _ = draw_person(np.random.default_rng(number), 480, 320)
    scale = height / 480
    figure = cv2.resize(figure, (round(320 * scale), height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    margin = max(0, width - figure.shape[1])
    photo = cv2.copyMakeBorder(figure, 0, 0, margin // 2, margin - margin // 2, cv2.BORDER_REPLICATE)[:, :width]
    grain = np.random.default_rng(number).integers(0, 12, (height, width, 1), np.uint8)
    photo = cv2.add(photo, np.repeat(grain, 3, axis=2))
    done, code = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert done
    return code.tobytes()


def timed(
    action: Callable[[int], object], runs: int, warm_up: int = 3, prepare: Callable[[int], object] = lambda number: None
) -> tuple[float, float]:
    """Runs an action with its number, each time after what prepares it; median and 95th percentile in milliseconds."""
    for number in range(warm_up):
        action(-1 - number)
    taken = []
    for number in range(runs):
        prepare(number)
        start = time.perf_counter()
        action(number)
        taken.append(1000 * (time.perf_counter() - start))
    return _summary(taken)


def _summary(taken: Sequence[float]) -> tuple[float, float]:
    return float(np.median(taken)), float(np.percentile(taken, 95))


def machine() -> dict[str, str]:
    """Says on what the figures were measured."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": str(os.cpu_count()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
        "ihp": __version__,
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


# The server, as Label Studio meets it


class _Photos:
    """Hands out photos on loopback: any name gives the photo of its size, so a new name is a photo never seen."""

    def __init__(self, photos: dict[str, bytes]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = photos[self.path.split("/")[2]]
                self.send_response(200)
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
    ) -> Any:
        """Asks for a photo's parts (``None``) or for what is clicked: label, x and y as shares, positive."""
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            self._sessions.append(session)
        context = None
        if clicks is not None:
            context = {"result": [_keypoint(number, *click) for number, click in enumerate(clicks)]}
        body = {
            "tasks": [{"id": task, "data": {"image": f"/data/{photo}"}, "drafts": [], "annotations": []}],
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
        lines = [line for pid in own for line in _lines(f"/proc/{pid}/status") if line.startswith(name)]
        return sum(int(line.split()[1]) for line in lines) / 1000


def _children(pid: int, *, deep: bool = True) -> list[int]:
    # Of all threads: who starts a process is its parent.
    text = " ".join(line for path in Path(f"/proc/{pid}/task").glob("*/children") for line in _lines(str(path)))
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


def through_http(weights: str, runs: int, note: Callable[[Row], None]) -> None:
    """Measures the server over HTTP, and hands each row to ``note``."""
    photos = {f"{w}x{h}": draw_photo(w, h) for w, h in SIZES}
    with serving(photos, weights) as server:
        note(Row("server ready", "", server.ready_s * 1000, server.ready_s * 1000))
        for size in photos:
            _clicks_on(server, size, runs, note)
        for annotators in (1, 4, 16):
            seconds = max(2.0, runs / 10)
            note(Row("clicks a second", f"{annotators} at once", *throughput(server, annotators, seconds), "1/s"))
        note(Row("click, 4 annotators, one each 2 s", "1024x768", *relaxed(server, 4, max(3, runs // 10))))
        note(Row("peak memory", "server", server.peak_mb(), server.peak_mb(), "MB"))


def _clicks_on(server: ServerUnderTest, size: str, runs: int, note: Callable[[Row], None]) -> None:
    few = max(5, runs // 3)

    def open_task(number: int) -> None:
        server.predict(f"{size}/o{number}", None)
        time.sleep(1)  # the annotator looks at it

    seen, face = f"{size}/w", place("Face", 0)
    all_parts = label_config_of("lip").replace("<KeyPointLabels", '<KeyPointLabels ihp_suggest="all"')

    def correct(number: int) -> None:
        server.predict(seen, [face, ("Face", 0.52, 0.2 + 1e-4 * number, False)], number)

    note(Row("cold click", size, *timed(lambda n: server.predict(f"{size}/c{n}", [face]), few)))
    first = timed(lambda n: server.predict(f"{size}/o{n}", [face]), few, prepare=open_task)
    note(Row("first click, a second after the task was opened", size, *first))
    note(Row("warm click", size, *timed(lambda n: server.predict(seen, [place("Face", n)], n), runs)))
    note(Row("correction click", size, *timed(correct, runs)))
    note(Row("second part", size, *timed(lambda n: server.predict(seen, [place("Left-arm", n)], n), runs)))
    masks = len(server.predict(seen, [face], label_config=all_parts))
    times = timed(lambda n: server.predict(seen, [place("Face", n)], n, all_parts), runs)
    note(Row(f"click that answers all parts ({masks})", size, *times))
    note(Row("open a photo that was seen", size, *timed(lambda n: server.predict(seen, None), runs)))


def place(label: str, number: int) -> tuple[str, float, float, bool]:
    """A click on a part, each number a little elsewhere: nobody has asked exactly this before."""
    x, y = PLACES[label]
    return label, x + 1e-4 * (number % 100), y + 1e-4 * (number // 100), True


def throughput(server: ServerUnderTest, annotators: int, seconds: float) -> tuple[float, float]:
    """Clicks a second with so many annotators who never wait."""
    until = time.perf_counter() + seconds

    def annotate(who: int) -> int:
        done = 0
        while time.perf_counter() < until:
            label = list(PLACES)[done % len(PLACES)]
            server.predict(f"1024x768/t{who}", [place(label, done)], 1000 * who + done)
            done += 1
        return done

    with ThreadPoolExecutor(annotators) as pool:
        rate = sum(pool.map(annotate, range(annotators))) / seconds
    return rate, rate


def relaxed(server: ServerUnderTest, annotators: int, clicks: int) -> tuple[float, float]:
    """Median and 95th percentile of a click when each annotator clicks every two seconds."""
    taken: list[float] = []

    def annotate(who: int) -> None:
        time.sleep(2 * who / annotators)
        for number in range(clicks):
            label = list(PLACES)[number % len(PLACES)]
            start = time.perf_counter()
            server.predict(f"1024x768/r{who}", [place(label, number)], 5000 + 100 * who + number)
            taken.append(1000 * (time.perf_counter() - start))
            time.sleep(max(0.0, 2 - (time.perf_counter() - start)))

    with ThreadPoolExecutor(annotators) as pool:
        list(pool.map(annotate, range(annotators)))
    return _summary(taken)


# The stages, one by one


def stages(predictor: Predictor, runs: int, note: Callable[[Row], None]) -> None:
    """Measures what a click consists of, within one process, and hands each row to ``note``."""
    for width, height in SIZES:
        _stages_on(predictor, width, height, runs, note)


def _stages_on(predictor: Predictor, width: int, height: int, runs: int, note: Callable[[Row], None]) -> None:
    on = f"{width}x{height}"
    code = draw_photo(width, height)
    image = decode_image(code, max_pixels=10**9)
    clicks = [Click(0.5 * width, 0.13 * height, "face")]
    note(Row("decode", on, *timed(lambda n: decode_image(code, max_pixels=10**9), max(5, runs // 3))))
    parse = predictor.parse(image, clicks, key=on)
    note(Row("crop and resize", on, *timed(lambda n: parse.view.crop(image), runs)))
    _network_stages(predictor, parse, clicks, on, runs, note)
    note(Row("mask at full size", on, *timed(lambda n: parse.mask("face"), runs)))
    mask = parse.mask("face")
    note(Row("RLE", on, *timed(lambda n: encode(mask), runs)))
    rle = encode(mask)
    note(Row("JSON", on, *timed(lambda n: json.dumps(rle), runs)))


def _network_stages(
    predictor: Predictor, parse: Parse, clicks: Sequence[Click], on: str, runs: int, note: Callable[[Row], None]
) -> None:
    config, view = predictor.config, parse.view
    points = [Point(*view.into(c.x, c.y), predictor.schema.names.index(c.part)) for c in clicks]
    shape = (config.channels, view.height, view.width)
    note(Row("localization maps", on, *timed(lambda n: localization_maps(points, *shape), runs)))
    engine = predictor.engine
    maps, known = engine.tensor(localization_maps(points, *shape)), engine.tensor(engine.no_prev_mask(view))
    image = engine.tensor(np.zeros((3, *shape[1:]), np.float32))
    parser = engine.parser
    with torch.inference_mode():
        features = parser.encode(image, maps)
        note(Row("network, a new photo's features", on, *timed(lambda n: parser.encode(image, maps), runs)))
        times = timed(lambda n: parser.decode(features, maps, known).logits.cpu(), runs)
        note(Row("network, a click", on, *times))
        logits = parser.decode(features, maps, known).logits[0].float().cpu().numpy()
    note(
        Row(
            "clean-up",
            on,
            *timed(lambda n: remove_small_regions(enforce_clicks(logits.copy(), None, points), points), runs),
        )
    )


def codec(runs: int, note: Callable[[Row], None]) -> None:
    """Measures the brush codec beside the SDK's, where that is installed, on a mask of 1000 blobs."""
    mask = _blobs(3000, 4000, 1000)
    rle = encode(mask)
    on = "4000x3000, 1000 blobs"
    note(Row("RLE encode", on, *timed(lambda n: encode(mask), runs)))
    note(Row("RLE decode", on, *timed(lambda n: decode(rle, 3000, 4000), runs)))
    try:
        from label_studio_sdk.converter import brush
    except ImportError:
        return
    rgba = np.repeat(mask.ravel().astype(np.uint8) * np.uint8(255), 4)
    few = max(2, runs // 10)
    note(Row("RLE encode, label-studio-sdk", on, *timed(lambda n: brush.encode_rle(rgba), few, 1)))
    note(Row("RLE decode, label-studio-sdk", on, *timed(lambda n: brush.decode_rle(rle), few, 1)))


def _blobs(height: int, width: int, count: int) -> NDArray[np.bool_]:
    rng = np.random.default_rng(0)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(count):
        place = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(mask, place, int(rng.integers(3, 40)), 1, thickness=-1)
    return mask.astype(bool)


def batches(predictor: Predictor, runs: int, note: Callable[[Row], None]) -> None:
    """Measures pre-annotation without HTTP: decoded photos a second; on a GPU, what is asked together is one batch."""
    image = decode_image(draw_photo(512, 512), max_pixels=10**9)
    together = 32 if predictor.device.type == "cuda" else 1
    with ThreadPoolExecutor(together) as pool:

        def annotate(number: int) -> None:
            list((pool.map if together > 1 else map)(predictor.predict, [image] * together))

        median, p95 = timed(annotate, runs)
    note(Row("pre-annotation", "512x512 decoded", 1000 * together / median, 1000 * together / p95, "1/s"))
