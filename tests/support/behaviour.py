"""Digests of what the product answers to fixed requests: they stay where a change of the code changes no answer.

    python tests/support/behaviour.py now.json              # writes the digests
    python tests/support/behaviour.py now.json before.json  # and fails where they differ from earlier ones

The digests are of one machine: another processor or another version of torch rounds differently.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from backend import json_of
from flask.testing import FlaskClient
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.data.augment import copy_paste
from ihp_backend.data.sample import Sample
from ihp_backend.data.synthetic import draw_person
from ihp_backend.inference.predictor import Predictor
from ihp_backend.parts import LIP
from ihp_backend.serving.application import create_app
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings

GOLDEN = Path(__file__).parents[1] / "golden"
CONFIG = Path(__file__).parents[2] / "label_config" / "lip.xml"

Photo = NDArray[np.uint8]
Spot = tuple[str, float, float, bool]
"""Label, x and y in percent, whether it is positive."""


def photos() -> dict[str, tuple[Photo, NDArray[np.uint8]]]:
    """Twelve photos, each with label ids of the people in it: alone, side by side, small in a large photo, none."""
    found: dict[str, tuple[Photo, NDArray[np.uint8]]] = {}
    for seed, (height, width) in enumerate([(400, 300), (320, 480), (601, 403), (256, 256)]):
        found[f"one {seed}"] = draw_person(np.random.default_rng(seed), height, width)
    for seed in range(4):
        rng = np.random.default_rng(100 + seed)
        one, other = (Sample("", *draw_person(rng, 420, 420)) for _ in range(2))
        sample, theirs = copy_paste(one, other, rng)
        found[f"two {seed}"] = sample.image, np.where(theirs > 0, theirs, sample.labels).astype(np.uint8)
    for seed, size in enumerate([(1100, 1500), (900, 700)]):
        image, labels = draw_person(np.random.default_rng(200 + seed), 240, 160)
        large = cv2.resize(image[:, :8], size[::-1]).astype(np.uint8)
        ids = np.zeros(size, np.uint8)
        for top, left in ((100, 80), (size[0] - 300, size[1] - 260)):
            large[top : top + 240, left : left + 160], ids[top : top + 240, left : left + 160] = image, labels
        found[f"small {seed}"] = large, ids
    three = [draw_person(np.random.default_rng(300 + i), 400, 260) for i in range(3)]
    found["three"] = np.concatenate([p[0] for p in three], 1), np.concatenate([p[1] for p in three], 1)
    found["nobody"] = cv2.resize(three[0][0][:, :8], (300, 200)).astype(np.uint8), np.zeros((200, 300), np.uint8)
    return found


def spots(labels: NDArray[np.uint8], part: str, count: int) -> list[Spot]:
    """Innermost places of the largest pieces of a part, in percent; the photo's middle where it is not."""
    height, width = labels.shape
    pieces = cv2.connectedComponents((labels == LIP.names.index(part)).astype(np.uint8))[1]
    order = sorted(range(1, int(pieces.max()) + 1), key=lambda i: -int((pieces == i).sum()))[:count]
    found = []
    for piece in order:
        distance = cv2.distanceTransform(np.pad((pieces == piece).astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        row, column = np.unravel_index(int(distance.argmax()), distance.shape)
        found.append((part, (int(column) + 0.5) * 100 / width, (int(row) + 0.5) * 100 / height, True))
    return found or [(part, 50.0, 50.0, True)]


def digest(value: object) -> str:
    if isinstance(value, np.ndarray):
        text = f"{value.shape} {value.dtype}".encode() + np.ascontiguousarray(value).tobytes()
    else:
        text = json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()[:16]


class Annotator:
    """Clicks through /predict, keeps what is answered in a draft, and notes a digest of every answer."""

    def __init__(self, client: FlaskClient, record: dict[str, str], name: str, url: str, **options: str) -> None:
        attributes = "".join(f' ihp_{k}="{v}"' for k, v in options.items())
        self.config = CONFIG.read_text().replace("<KeyPointLabels", f"<KeyPointLabels{attributes}")
        for label in ("Tattoo", "Backpack"):
            for control in ("KeyPointLabels", "BrushLabels"):
                self.config = self.config.replace(f"</{control}>", f'<Label value="{label}"/></{control}>')
        self.client, self.record, self.name, self.url = client, record, name, url
        self.regions: dict[str, dict[str, Any]] = {}
        self.steps, self.saves = 0, 0
        self.context: list[dict[str, Any]] = []
        self.ids: dict[str, str] = {}

    def post(self, context: list[dict[str, Any]] | None, *, draft: bool = True, tasks: int = 1) -> None:
        drafts = (
            [{"id": 1, "updated_at": str(self.saves), "result": list(self.regions.values())}] if self.regions else []
        )
        task = {"id": self.name, "data": {"image": self.url}, "annotations": [], "drafts": drafts if draft else []}
        body = {
            "tasks": [task | {"id": f"{self.name} {n}" if n else self.name} for n in range(tasks)],
            "project": "1.1",
            "label_config": self.config,
            "params": {"context": None if context is None else {"result": context}},
        }
        answer = self.client.post("/predict", json=body)
        self.steps += 1
        items = (
            json_of(answer)["results"]
            if answer.status_code == 200
            else [{"result": [], "error": json_of(answer)["detail"]}]
        )  # its id is a new one each time
        self.last = items[0]["result"]
        self.record[f"{self.name} {self.steps}"] = digest([self.plain(item) for item in items])

    def plain(self, item: dict[str, Any]) -> dict[str, Any]:
        """An answer without what differs from run to run: new ids, and when a click was seen."""
        result = []
        for region in item["result"]:
            region = json.loads(json.dumps(region))
            region["id"] = self.ids.setdefault(region["id"], f"id {len(self.ids)}")
            for click in region.get("meta", {}).get("ihp", {}).get("clicks", ()):
                click[3] = 0
            result.append(region)
        return {**item, "result": result}

    def open(self) -> None:
        self.post(None)

    def click(self, *places: Spot, new: bool = False) -> None:
        """Adds keypoints; a new part begins with the context empty."""
        if new:
            self.context = []
        for label, x, y, is_positive in places:
            self.context.append(
                {
                    "id": f"k{len(self.context)}{self.steps}{self.name}"[:40],
                    "type": "keypointlabels",
                    "from_name": "click",
                    "to_name": "image",
                    "is_positive": is_positive,
                    "value": {"x": x, "y": y, "width": 0.3, "keypointlabels": [label.capitalize()]},
                }
            )
        self.post(self.context)

    def accept(self, **changes: Any) -> None:
        """Takes the answer into the draft, as accepted regions."""
        for region in self.last:
            self.regions[region["id"]] = {**region, "origin": "manual", **changes}
        self.saves += 1
        self.context = []


def golden_requests(client: FlaskClient, record: dict[str, str]) -> None:
    for path in sorted(GOLDEN.glob("predict_*.json")):
        annotator = Annotator(client, record, path.stem, "")
        answer = json_of(client.post("/predict", json=json.loads(path.read_text())))["results"]
        record[path.stem] = digest([annotator.plain(item) for item in answer])


def scripts(client: FlaskClient, record: dict[str, str]) -> None:
    """What annotators do, one script a photo."""
    all_photos = photos()

    def on(photo: str, **options: str) -> tuple[Annotator, NDArray[np.uint8]]:
        name = " ".join([photo, *options.values()])
        return Annotator(client, record, name, photo, **options), all_photos[photo][1]

    for photo in ("one 0", "one 2"):  # corrections, then an accepted mask beside which further parts are clicked
        annotator, labels = on(photo)
        annotator.open()
        annotator.click(*spots(labels, "face", 1), new=True)
        annotator.click(("face", 52.0, 30.0, True))
        annotator.click(("face", 48.0, 12.0, False))
        annotator.accept()
        annotator.click(*spots(labels, "upper-clothes", 1), new=True)
        annotator.click(("upper-clothes", 30.0, 45.0, False))
        annotator.click(*spots(labels, "hair", 1), new=True)  # the last answer is only remembered
        annotator.accept()
        annotator.click(("face", 50.0, 20.0, False), new=True)  # a negative click on what was accepted
    annotator, labels = on("one 1", suggest="all", refine="all")
    annotator.click(*spots(labels, "pants", 1), new=True)
    annotator.accept()
    annotator.click(*spots(labels, "upper-clothes", 1), new=True)
    annotator.click(*spots(labels, "hair", 1), ("hair", 20.0, 80.0, False))
    annotator, labels = on("one 3", overlap="yes")
    annotator.click(*spots(labels, "upper-clothes", 1), new=True)
    annotator.accept()
    annotator.click(*((("Tattoo", x, y, p)) for _, x, y, p in spots(labels, "upper-clothes", 1)), new=True)
    annotator.click(("Backpack", 55.0, 40.0, True), new=True)
    for photo in ("two 0", "two 1"):
        annotator, labels = on(photo)
        places = spots(labels, "upper-clothes", 2)
        annotator.open()
        annotator.accept(origin="prediction")
        annotator.click(places[0], new=True)
        annotator.accept()
        annotator.click(places[-1], new=True)
        annotator.click(*spots(labels, "pants", 1), new=True)
    for photo in ("two 2", "three"):
        annotator, labels = on(photo, people="everyone")
        annotator.open()
        annotator.click(*spots(labels, "face", 1), new=True)
        annotator.click(*spots(labels, "face", 3)[1:], ("face", 5.0, 95.0, False))
        annotator.accept()
        annotator.click(*spots(labels, "upper-clothes", 1), new=True)
    annotator, labels = on("two 3", refine="all")
    annotator.click(("Tattoo", 50.0, 40.0, True), new=True)
    annotator.click(*spots(labels, "face", 1), new=True)
    annotator.accept(meta={})
    annotator.click(*spots(labels, "hair", 1), new=True)
    annotator.click(("hair", 60.0, 60.0, False))
    for photo in ("small 0", "small 1"):
        annotator, labels = on(photo)
        annotator.open()
        places = spots(labels, "upper-clothes", 2)
        annotator.click(places[0], new=True)
        annotator.accept()
        annotator.click(places[-1], new=True)
        annotator.click(*spots(labels, "face", 1), new=True)
    annotator, labels = on("nobody")
    annotator.click(("face", 50.0, 50.0, True), new=True)
    annotator.post(None, tasks=2)
    annotator.post([{"type": "keypointlabels", "from_name": "click", "value": {"x": 101}}])


def predictions(predictor: Predictor, record: dict[str, str]) -> None:
    """What Python code gets: a parse click by click, its masks, scores and label map."""
    for photo in ("one 0", "two 1", "small 1", "three"):
        image, labels = photos()[photo]
        height, width = image.shape[:2]
        clicks = [
            Click(x * width / 100, y * height / 100, part, p)
            for part in ("face", "pants", "left-arm")
            for part, x, y, p in spots(labels, part, 1)
        ]
        clicks += [Click(0.4 * width, 0.4 * height, "pants"), Click(0.3 * width, 0.2 * height, "face", False)]
        for key in (None, photo):
            parse = predictor.parse(image, key=key)
            for count in range(1, len(clicks) + 1):
                if count > 3 and key:
                    parse = predictor.parse(image, clicks[:count], key=key, previous=parse)
                else:
                    parse = predictor.parse(image, clicks[:count], key=key)
                record[f"{photo} {key} parse {count}"] = digest(
                    [digest(parse.logits), digest(parse.label_map()), *(parse.score(p) for p in LIP.names)]
                )
        found = predictor.predict(image, clicks, suggest=True)
        record[f"{photo} predict"] = digest([*((k, digest(v), found.scores[k]) for k, v in found.masks.items())])


def dump() -> dict[str, str]:
    """Returns the digests by the name of the request."""
    torch.set_num_threads(1)
    record: dict[str, str] = {}
    predictor = Predictor.load("lip", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.from_environment(
            {"IHP_DATA_DIR": folder, "IHP_THREADS": "1", "IHP_TORCH_THREADS": "1", "IHP_DEVICE": "cpu"}
        )
        runtime = Runtime(settings, lambda: predictor)
        known = photos()
        gradient = np.repeat(np.tile(np.linspace(0, 255, 640).astype(np.uint8), (480, 1))[..., None], 3, 2)
        runtime.images.load = lambda url, **where: known[url][0] if url in known else gradient  # type: ignore[method-assign]
        client = create_app(runtime=runtime).test_client()
        golden_requests(client, record)
        scripts(client, record)
    predictions(predictor, record)
    return record


def main(now: Path, before: Path | None = None) -> int:
    """Writes the digests; returns 1 where they differ from those before."""
    found = dump()
    now.write_text(json.dumps(found, indent=1) + "\n")
    earlier = json.loads(before.read_text()) if before else found
    wrong = [name for name in {**earlier, **found} if earlier.get(name) != found.get(name)]
    print(f"{len(found)} answers, {len(set(found.values()))} different ones, {len(wrong)} changed", *wrong, sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
