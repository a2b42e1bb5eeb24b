"""The learning experiment: photos are annotated in rounds, the project is trained after each, clicks are counted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import requests
from numpy.typing import NDArray

from ihp_backend.data.sample import DataSet, Sample
from ihp_backend.demo.project import BackendAccess, connect_backend, plain_label_config
from ihp_backend.demo.stack import Stack
from ihp_backend.evaluation.metrics import mean_iou
from ihp_backend.evaluation.protocol import ProtocolConfig, evaluate
from ihp_backend.inference.predictor import Predictor
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.label_studio.regions import mask_regions
from ihp_backend.learning.label_meanings import LabelMeanings
from ihp_backend.learning.triggers import project_key
from ihp_backend.parts import IGNORE, Schema, get_schema

TARGET = 0.85
_CAP = 8.0
OWN_LABELS: Mapping[str, tuple[str, ...]] = {
    "Outfit": ("upper-clothes", "coat", "dress", "jumpsuits", "scarf"),
    "Legwear": ("pants", "skirt", "socks", "left-shoe", "right-shoe"),
    "Bare skin": ("left-arm", "right-arm", "left-leg", "right-leg", "glove"),
    "Head": ("face", "hair", "hat", "sunglasses"),
}
"""Labels of a project that no part of LIP means, and the parts that its annotators count as each."""


class Relabelled:
    """A data set whose classes are a project's own labels, behind the schema's parts."""

    def __init__(self, data: DataSet, own: Mapping[str, tuple[str, ...]] = OWN_LABELS) -> None:
        """Takes the data, and for each label the classes that it unites."""
        self.names, self._data = data.names, data
        self.schema = get_schema(data.schema.name).extended(tuple(own))
        self._ids = np.zeros(256, np.uint8)
        self._ids[IGNORE] = IGNORE
        for label, parts in own.items():
            self._ids[[data.schema.names.index(part) for part in parts]] = self.schema.names.index(label)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Reads a photo with its labels; raises as the data set does."""
        sample = self._data[index]
        return Sample(sample.name, sample.image, self._ids[sample.labels])


@dataclass(frozen=True)
class Round:
    """What was measured after a number of annotated photos.

    Attributes:
        photos: Annotated so far.
        version: That answers.
        outcome: Of the last training, with its reason.
        clicks: Clicks per class until a test photo's mIoU reached 0.85, on average; failures count as the cap.
        failures: Test photos that never reached it.
        miou_at_2: mIoU of the test photos after two clicks per class.
        base_check: mIoU of the base check at one click per class.
        seconds: Of the training.
    """

    photos: int
    version: str
    outcome: str
    clicks: float
    failures: int
    miou_at_2: float
    base_check: float
    seconds: float


def measure(
    weights: Path,
    test: DataSet,
    check: DataSet,
    means: Callable[[Schema], Mapping[str, tuple[str, ...]]] = lambda schema: {},
    **fields: Any,
) -> Round:
    """Counts the clicks that weights need on the test photos, and measures the base check.

    Args:
        weights: Their folder.
        test: Photos with the project's own labels.
        check: Photos with the classes of the weights.
        means: Tells the parts of a label set that the project's labels stand for; by default, those of their names.
        fields: Further fields of the round.
    """
    predictor = Predictor.load(weights)
    labels = dict(means(predictor.schema))
    found = evaluate(
        predictor, test, ProtocolConfig(max_clicks=_CAP), labels=labels and {"background": ("background",)} | labels
    )
    needed = [photo.reached[TARGET] for photo in found.photos]
    base = evaluate(predictor, check, ProtocolConfig(max_clicks=1), quiet=True)
    return Round(
        clicks=round(float(np.mean([_CAP if n is None else n for n in needed])), 3),
        failures=sum(n is None for n in needed),
        miou_at_2=round(mean_iou(found.confusions[2.0]), 4),
        base_check=round(mean_iou(base.confusions[1.0]), 4),
        **fields,
    )


class Annotators:
    """A project in a running Label Studio, annotated by whoever knows the truth."""

    def __init__(self, stack: Stack, title: str, folder: Path) -> None:
        """Makes the project and connects it; photos pass through ``folder``."""
        self._stack, self._folder = stack, folder
        xml = plain_label_config(tuple(OWN_LABELS))
        self._config = LabelConfig.parse(xml)
        found = stack.client.create_project(title, xml)
        self.project, self._key = int(found["id"]), project_key(found)
        connect_backend(stack.client, self.project, BackendAccess(stack.backend))
        self._backend = int(stack.client.list_ml_backends(self.project)[0]["id"])

    def means(self, folder: Path, schema: Schema) -> Mapping[str, tuple[str, ...]]:
        """Returns the parts of a label set that the project's labels stand for by now; ``folder`` has the meanings."""
        return LabelMeanings(folder).parts(self._key, self._config, schema)

    def annotate(self, photos: Relabelled) -> None:
        """Imports photos and submits an annotation for each, one region a label."""
        samples = {sample.name: sample for sample in (photos[i] for i in range(len(photos)))}
        files = []
        for name, sample in samples.items():
            files.append(self._folder / f"{name}.jpg")
            cv2.imwrite(str(files[-1]), sample.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        client = self._stack.client
        client.import_files(self.project, files)
        for task in client.list_tasks(self.project):
            name = Path(task["data"]["image"]).stem.partition("-")[2]
            if name in samples:
                ids = samples[name].labels
                masks: dict[str, NDArray[np.bool_]] = {
                    label: ids == photos.schema.names.index(label) for label in OWN_LABELS
                }
                regions = [
                    region
                    for label, m in masks.items()
                    if m.any()
                    for region in mask_regions(m, label, 1.0, self._config)
                ]
                client.create_annotation(int(task["id"]), regions)

    def train(self) -> dict[str, Any]:
        """Does what the button "Start training" does, waits for the end, and returns the training's record."""
        before = self._record().get("ended")
        self._stack.client.post(f"/api/ml/{self._backend}/train")
        while True:
            self._stack.children.check()
            record = self._record()
            if record.get("state") in ("promoted", "rejected", "failed") and record.get("ended") != before:
                return record
            time.sleep(1)

    def _record(self) -> dict[str, Any]:
        found = requests.get(f"{self._stack.backend}/trainings", timeout=30).json()
        return next((dict(r) for key, r in found.items() if key.startswith(f"{self.project}.")), {})


def run(
    annotators: Annotators,
    rounds: Sequence[Relabelled],
    measured: Callable[..., Round],
    version_of: Callable[[], tuple[str, Path]],
    out: Path,
) -> list[Round]:
    """Annotates, trains and measures, round after round; rounds.json and rounds.png grow with each.

    Args:
        annotators: The project.
        rounds: The photos of each round.
        measured: ``measure`` of given weights.
        version_of: Tells the version that is served, and its folder.
        out: Where to write.
    """
    version, folder = version_of()
    found = [measured(folder, photos=0, version=version, outcome="before", seconds=0.0)]
    for photos in rounds:
        annotators.annotate(photos)
        record = annotators.train()
        version, folder = version_of()
        outcome = f"{record['state']}: {record['reason']}"
        seconds = float(record.get("seconds") or 0)
        count = found[-1].photos + len(photos)
        found.append(measured(folder, photos=count, version=version, outcome=outcome, seconds=seconds))
        (out / "rounds.json").write_text(json.dumps([asdict(r) for r in found], indent=1) + "\n")
        draw(found, out / "rounds.png")
    return found


def draw(found: Sequence[Round], path: Path) -> None:
    """Draws clicks against annotated photos, with learning and without."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), dpi=130)
    clicks, base = figure.subplots(1, 2)
    photos = [r.photos for r in found]
    clicks.plot(photos, [r.clicks for r in found], marker="o", label="with learning")
    clicks.axhline(found[0].clicks, linestyle=":", color="grey", label="without")
    clicks.set(xlabel="annotated photos", ylabel=f"clicks per class to mIoU {TARGET}", ylim=(0, None))
    clicks.legend(fontsize=8)
    base.plot(photos, [r.miou_at_2 for r in found], marker="o", label="test photos, 2 clicks")
    base.plot(photos, [r.base_check for r in found], marker="s", label="base check, 1 click")
    base.set(xlabel="annotated photos", ylabel="mIoU", ylim=(0, 1))
    base.legend(fontsize=8)
    for axes in (clicks, base):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
