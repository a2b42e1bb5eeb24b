"""A simulated annotating session: the real application, asked as Label Studio's interface asks it, photo after photo.

What the interface does is written down here as seen in it: the context holds the open keypoints of the clicked label
only; what was accepted stands in the draft, which is saved now and then; accepting takes the keypoints away; a
suggestion with the id of a region replaces it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from flask.testing import FlaskClient
from numpy.typing import NDArray
from tqdm import tqdm

from ihp_backend.clicks import Click
from ihp_backend.data.sample import DataSet, Sample
from ihp_backend.demo.project import plain_label_config
from ihp_backend.evaluation.metrics import confusion, mean_iou
from ihp_backend.geometry import pixels_to_percent
from ihp_backend.inference.predictor import Predictor
from ihp_backend.label_studio.rle import decode_mask
from ihp_backend.parts import Schema
from ihp_backend.serving.application import create_app
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings
from ihp_backend.simulation.annotator import SimulatedAnnotator, User

BUDGETS = (1.0, 1.5, 2.0, 3.0)
"""Mean clicks per class at which the annotation is read back."""
_URL = "http://127.0.0.1:9"  # never asked: photos come from a folder


@dataclass(frozen=True)
class SessionConfig:
    """How the session goes.

    Attributes:
        user: ``center``, ``sloppy`` or ``human``, as in the evaluation.
        max_clicks: Clicks per class at which a photo is submitted.
        auto_accept: Suggestions are accepted at once. Else when the annotator goes on to another label, and until
            then that label's keypoints stay open.
        refine: A click refines the ``clicked`` label's mask, or ``all`` that clicks made, as the label config may say.
        people: A click means the ``one`` it is on, or ``everyone`` in the photo, as the label config may say.
        saves_every: The draft is saved after so many clicks.
        seed: Of the sloppy and the human user.
    """

    user: User = "center"
    max_clicks: float = 3.0
    auto_accept: bool = True
    refine: str = "clicked"
    people: str = "one"
    saves_every: int = 2
    seed: int = 0


@dataclass
class Session:
    """What a session came to.

    Attributes:
        confusions: Confusion matrix of all photos at each budget of ``BUDGETS``.
        clicks: Clicks of each photo.
        seconds: Seconds that each photo's requests took, those of opening it included.
        click_seconds: Seconds of each click's request.
        photos: Names, in their order.
    """

    confusions: dict[float, NDArray[np.int64]]
    clicks: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    click_seconds: list[float] = field(default_factory=list)
    photos: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Returns the figures, ready for JSON."""
        return {
            "images": len(self.photos),
            "clicks_per_photo": round(float(np.mean(self.clicks or [0])), 2),
            "seconds_per_photo": round(float(np.mean(self.seconds or [0])), 3),
            "seconds_per_click_median": round(float(np.median(self.click_seconds or [0])), 4),
            "miou_at_clicks_per_class": {f"{b:g}": round(mean_iou(m), 5) for b, m in self.confusions.items()},
        }


def run_session(predictor: Predictor, data: DataSet, config: SessionConfig, *, quiet: bool = False) -> Session:
    """Annotates a data set through ``/predict``.

    Each part present is clicked once; then, one click at a time, the largest error of the annotation as it stands.
    Where the truth is background, that is a negative click of the label which is there.

    Args:
        predictor: Answers.
        data: Photos with labels of the predictor's schema.
        config: How.
        quiet: No progress bar.
    """
    count = len(data.schema)
    budgets = [b for b in BUDGETS if b <= config.max_clicks]
    result = Session({b: np.zeros((count, count), np.int64) for b in budgets})
    for interface, annotator in tqdm(
        tasks(predictor, data, config), total=len(data), desc="session", unit="photo", disable=quiet
    ):
        _annotate(interface, annotator, config, result)
    return result


def tasks(predictor: Predictor, data: DataSet, config: SessionConfig) -> Iterator[tuple[Interface, SimulatedAnnotator]]:
    """Makes a task of each photo, not opened yet, and an annotator who knows the truth.

    Args:
        predictor: Answers.
        data: Photos with labels of the predictor's schema.
        config: How the session goes.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            data_dir=Path(folder) / "data",
            local_files_root=Path(folder),
            label_studio_url=_URL,
            label_studio_token="none",
        )
        client = create_app(runtime=Runtime(settings, lambda: predictor, lambda: predictor.version)).test_client()
        for index in range(len(data)):
            sample = data[index]
            cv2.imwrite(f"{folder}/{index}.png", sample.image[..., ::-1])
            interface = Interface(client, index + 1, f"/data/local-files/?d={index}.png", sample, data.schema, config)
            yield interface, SimulatedAnnotator(sample.labels, data.schema, user=config.user, seed=config.seed + index)
            (Path(folder) / f"{index}.png").unlink()


def _annotate(interface: Interface, annotator: SimulatedAnnotator, config: SessionConfig, result: Session) -> None:
    labels, schema = annotator.labels, annotator.schema
    present = max(1, len(annotator.classes))
    due = {b: max(1, round(b * present)) for b in result.confusions}
    interface.open()
    done = 0

    def count_in() -> None:
        predicted = interface.label_map()
        for budget in [b for b, clicks in due.items() if clicks <= done]:
            result.confusions[budget] += confusion(labels, predicted, len(schema))
            del due[budget]

    waiting = annotator.first_clicks()
    while due:
        if not waiting:
            click = annotator.next_click(interface.label_map())
            if click is None:
                break
            waiting = [click]
        interface.click(waiting.pop(0))
        done += 1
        if not waiting:
            count_in()
    done = max([done, *due.values()])
    count_in()
    result.photos.append(interface.sample.name)
    result.clicks.append(len(interface.click_seconds))
    result.seconds.append(interface.seconds)
    result.click_seconds += interface.click_seconds


class Interface:
    """One task, open in Label Studio's interface.

    Attributes:
        sample: The photo.
        seconds: How long all requests took.
        click_seconds: How long the request of each click took.
    """

    def __init__(
        self, client: FlaskClient, task: int, url: str, sample: Sample, schema: Schema, config: SessionConfig
    ) -> None:
        self.sample, self.seconds = sample, 0.0
        self.click_seconds: list[float] = []
        self._client, self._task, self._url, self._schema, self._config = client, task, url, schema, config
        self._regions: dict[str, dict[str, Any]] = {}
        self._suggestions: list[dict[str, Any]] = []
        self._predicted: list[dict[str, Any]] = []
        self._keypoints: list[dict[str, Any]] = []
        self._draft: list[dict[str, Any]] | None = None
        self._saves = self._made = 0
        self._xml = plain_label_config(schema.names[1:], refine=config.refine, people=config.people)

    def open(self) -> None:
        """Opens the task: the interface asks twice, without a context."""
        for _ in range(2):
            self._ask(None)

    def open_with_predictions(self) -> None:
        """Opens the task after a prediction was made for it: its masks are there.

        Until a draft is saved, a click's request has them as the task's predictions alone.
        """
        self._predicted = self._ask(None)
        self._regions = {region["id"]: {**region, "origin": "prediction"} for region in self._predicted}

    def click(self, click: Click) -> None:
        """Clicks. A click on the background is a negative one of the label that is there.

        Raises:
            RuntimeError: If the application refuses the request.
        """
        height, width = self.sample.labels.shape
        label, is_positive = click.part, click.is_positive
        if label == self._schema.names[0]:
            row, column = click.pixel(height, width)
            there = self.label_map()[row, column]
            if not there:
                return
            label, is_positive = self._schema.names[there], False
        if any(k["value"]["keypointlabels"] != [label] for k in self._keypoints):
            self.accept()
        x, y = pixels_to_percent(click.x, click.y, height, width)
        value = {"x": x, "y": y, "width": 0.3, "keypointlabels": [label]}
        self._made += 1
        self._keypoints.append(
            {
                "id": f"k{self._made}",
                "from_name": "click",
                "to_name": "image",
                "type": "keypointlabels",
                "is_positive": is_positive,
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": value,
                "origin": "manual",
            }
        )
        start = time.perf_counter()
        self._suggestions = self._ask({"result": list(self._keypoints)})
        self.click_seconds.append(time.perf_counter() - start)
        if self._config.auto_accept:
            self.accept()
        if self._made % self._config.saves_every == 0:
            self._draft = [*self._regions.values(), *self._keypoints]
            self._saves += 1

    def accept(self) -> None:
        """Accepts what is suggested; the keypoints go, and what is ``dynamic``."""
        for region in self._suggestions:
            self._regions[region["id"]] = {**region, "origin": "manual"}
        self._regions = {name: region for name, region in self._regions.items() if not region.get("dynamic")}
        self._suggestions, self._keypoints = [], []

    def label_map(self) -> NDArray[np.uint8]:
        """The annotation as it stands, open suggestions included: (H, W) ids; what came last lies on top."""
        height, width = self.sample.labels.shape
        ids = np.zeros((height, width), np.uint8)
        for region in (self._regions | {r["id"]: r for r in self._suggestions}).values():
            mask = decode_mask(region["value"]["rle"], height, width)
            ids[mask] = self._schema.names.index(region["value"]["brushlabels"][0])
        return ids

    def _ask(self, context: dict[str, Any] | None) -> list[dict[str, Any]]:
        drafts = [] if self._draft is None else [{"id": 1, "result": self._draft, "updated_at": f"{self._saves:06d}"}]
        task = {"id": self._task, "data": {"image": self._url}, "drafts": drafts, "annotations": []}
        if self._predicted:
            task["predictions"] = [{"id": 1, "result": self._predicted}]
        body = {
            "tasks": [task],
            "project": "1.1",
            "label_config": self._xml,
            "params": {"login": None, "password": None, "context": context},
        }
        start = time.perf_counter()
        answer = self._client.post("/predict", json=body)
        self.seconds += time.perf_counter() - start
        if answer.status_code != 200:
            raise RuntimeError(f"/predict answered {answer.status_code} on {self.sample.name}: {answer.text[:300]}")
        result: list[dict[str, Any]] = answer.json["results"][0]["result"] if answer.json else []
        return result
