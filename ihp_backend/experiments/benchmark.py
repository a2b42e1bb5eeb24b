"""How fast it is: the server as Label Studio meets it, over HTTP on this machine, and its stages one by one.

Photos are drawn, clicks are scripted, every figure is the median and the 95th percentile of many runs after a warm-up.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ihp_backend import __version__
from ihp_backend.clicks import Click
from ihp_backend.demo.project import label_config_of
from ihp_backend.experiments.server_under_test import PLACES, ServerUnderTest, draw_photo, lines_of, place, serving
from ihp_backend.inference.postprocess.enforce_clicks import enforce_clicks
from ihp_backend.inference.postprocess.remove_small_regions import remove_small_regions
from ihp_backend.inference.prediction import Parse
from ihp_backend.inference.predictor import Predictor
from ihp_backend.label_studio.image_decoding import decode_image
from ihp_backend.label_studio.mask_values import BITMASK, BRUSH
from ihp_backend.label_studio.mask_values import encode as encode_value
from ihp_backend.label_studio.rle import decode, encode
from ihp_backend.network.click_maps import Point, localization_maps

SIZES = ((800, 600), (1024, 768), (4000, 3000))
"""Width and height of the photos."""


@dataclass(frozen=True)
class Row:
    """One line of the result: what, on what, how long in milliseconds, or how many a second."""

    what: str
    on: str
    median: float
    p95: float
    unit: str = "ms"


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
    names = [line.partition(":")[2].strip() for line in lines_of("/proc/cpuinfo") if line.startswith("model name")]
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


def through_http(weights: str, runs: int, note: Callable[[Row], None]) -> None:
    """Measures the server over HTTP, and hands each row to ``note``."""
    photos = {f"{w}x{h}": draw_photo(w, h) for w, h in SIZES}
    with serving(photos, weights) as server:
        note(Row("server ready", "", server.ready_s * 1000, server.ready_s * 1000))
        for size in photos:
            _clicks_on(server, size, runs, note)
        for size in list(photos)[1:]:
            _clicks_beside_masks(server, size, runs, note)
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


def _clicks_beside_masks(server: ServerUnderTest, size: str, runs: int, note: Callable[[Row], None]) -> None:
    """Clicks where the draft has hand-drawn masks already: all come with each request, as Label Studio sends them."""
    width, height = (int(side) for side in size.split("x"))
    brushes = label_config_of("lip")
    for kind, config in ((BRUSH, brushes), (BITMASK, brushes.replace("BrushLabels", "BitmaskLabels"))):
        accepted = [_drawn_region(number, width, height, kind) for number in range(100)]
        for count in (30, 100):
            there, name = accepted[:count], f"{count} {kind.removesuffix('labels')} masks"
            server.predict(f"{size}/m{kind}", None)
            click = partial(_click_beside, server, f"{size}/m{kind}", config, there)
            times = timed(click, runs)
            note(Row(f"warm click beside {name}", size, *times))


def _click_beside(
    server: ServerUnderTest, photo: str, config: str, accepted: Sequence[dict[str, Any]], number: int
) -> None:
    server.predict(photo, [place("Face", number)], len(accepted), config, accepted)


def _drawn_region(number: int, width: int, height: int, kind: str) -> dict[str, Any]:
    """A region as somebody draws it: a blob of a tenth of the photo's height with a frayed edge."""
    rng = np.random.default_rng(number)
    turns = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    radius = height / 20 * rng.uniform(0.8, 1.2, 60)
    middle = rng.uniform(0.1, 0.9, 2) * (width, height)
    corners = np.stack((np.cos(turns), np.sin(turns)), 1) * radius[:, None] + middle
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
    label = ("Upper-clothes", "Left-arm", "Left-shoe", "Pants")[number % 4]
    return {
        "id": f"drawn{number}",
        "type": kind,
        "from_name": "mask",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "value": encode_value(mask.astype(bool), label, kind)[0],
    }


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
    maps, prev_mask = engine.tensor(localization_maps(points, *shape)), engine.tensor(engine.no_prev_mask(view))
    image = engine.tensor(np.zeros((3, *shape[1:]), np.float32))
    parser = engine.parser
    with torch.inference_mode():
        features = parser.encode(image, maps)
        note(Row("network, a new photo's features", on, *timed(lambda n: parser.encode(image, maps), runs)))
        times = timed(lambda n: parser.decode(features, maps, prev_mask).logits.cpu(), runs)
        note(Row("network, a click", on, *times))
        logits = parser.decode(features, maps, prev_mask).logits[0].float().cpu().numpy()
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
    """Measures pre-annotation without HTTP: decoded photos a second, as many at once as `ihp preannotate` does.

    On a GPU, what is asked together is one batch; on a CPU each photo has one core.
    """
    image = decode_image(draw_photo(512, 512), max_pixels=10**9)
    on_gpu, cores = predictor.device.type == "cuda", torch.get_num_threads()
    together = 32 if on_gpu else os.cpu_count() or 1
    with ThreadPoolExecutor(together, initializer=None if on_gpu else partial(torch.set_num_threads, 1)) as pool:
        median, p95 = timed(lambda number: list(pool.map(predictor.predict, [image] * together)), runs)
    torch.set_num_threads(cores)
    note(Row("pre-annotation", "512x512 decoded", 1000 * together / median, 1000 * together / p95, "1/s"))
