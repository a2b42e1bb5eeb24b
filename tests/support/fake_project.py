"""A Label Studio with one project, which fails on request, and a learner that learns nothing."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from fake_label_studio import FakeLabelStudio, reply
from fakes import png
from label_studio_sdk.converter.brush import encode_rle
from numpy.typing import NDArray
from werkzeug.formparser import parse_form_data

PROJECT = "1.1795392500"
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <KeyPointLabels name="click" toName="image" smart="true">
    <Label value="Face"/><Label value="Trousers"/><Label value="Tattoo"/>
  </KeyPointLabels>
  <BrushLabels name="mask" toName="image" smart="false">
    <Label value="Face"/><Label value="Trousers"/><Label value="Tattoo"/>
  </BrushLabels>
</View>"""


def region(label: str, mask: NDArray[np.bool_], **changes: Any) -> dict[str, Any]:
    """A brush region as Label Studio saves it, encoded by its SDK."""
    rgba = np.repeat(mask.astype(np.uint8)[..., None] * 255, 4, axis=2)
    return {
        "id": f"{label}-1",
        "type": "brushlabels",
        "from_name": "mask",
        "to_name": "image",
        "original_width": mask.shape[1],
        "original_height": mask.shape[0],
        "image_rotation": 0,
        "value": {"format": "rle", "rle": encode_rle(rgba.ravel()), "brushlabels": [label]},
        **changes,
    }


def box(rows: slice, columns: slice, height: int = 48, width: int = 64) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    return mask


class FakeProject(FakeLabelStudio):
    """Answers the API of project 1 as Label Studio does; ``fails`` maps a part of a path to a status."""

    def __init__(self) -> None:
        super().__init__()
        self.project: dict[str, Any] = {"id": 1, "created_at": "2026-11-23T00:08:20.485548Z", "label_config": CONFIG}
        self.tasks: dict[int, dict[str, Any]] = {}
        self.fails: dict[str, int] = {}
        self.tabs: list[dict[str, Any]] = []
        self.after: list[Callable[[str], None]] = []
        self.uploads: dict[int, dict[str, Any]] = {}
        self._numbers = count(1000)

    def add(self, number: int, *regions: dict[str, Any], **changes: Any) -> None:
        """Adds a task with a photo of 64x48 pixels, and an annotation of these regions if there are any."""
        url = f"/data/upload/1/photo-{number}.png"
        self.files[url] = png(64, 48)
        annotation = {
            "id": 100 + number,
            "result": list(regions),
            "was_cancelled": False,
            "updated_at": "2026-11-23T01",
        }
        task = {"id": number, "data": {"image": url}, "annotations": [annotation] if regions else [], "predictions": []}
        self.tasks[number] = task | changes

    def _keep(self, name: str, content: bytes) -> int:
        number = next(self._numbers)
        path = f"upload/1/{number:08x}-{name.replace(' ', '_')}"
        self.files[f"/data/{path}"] = content
        self.uploads[number] = {"id": number, "file": path, "size": len(content)}
        return number

    def _make(self, task: dict[str, Any]) -> int:
        number = next(self._numbers)
        annotations = [
            {"id": next(self._numbers), "was_cancelled": False, "updated_at": "2026-11-24T01", **a}
            for a in task.get("annotations", [])
        ]
        predictions = [{"id": next(self._numbers), **p} for p in task.get("predictions", [])]
        self.tasks[number] = {
            "id": number,
            "data": task["data"],
            "annotations": annotations,
            "predictions": predictions,
        }
        return 1

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes | None) -> None:
        for after in self.after:
            after(handler.path)
        for part, status in self.fails.items():
            if part in handler.path:
                self.requests.append((handler.command, handler.path, handler.headers.get("Authorization")))
                return reply(handler, status, {"detail": "as told"})
        return super().answer(handler, body)

    def writes(self) -> list[str]:
        """All requests that could have changed something."""
        return [f"{method} {path}" for method, path, _ in self.requests if method != "GET"]

    def _api(self, handler: BaseHTTPRequestHandler, path: str, body: bytes | None) -> None:
        url = urlsplit(path)
        if url.path == "/api/projects/1/":
            return reply(handler, 200, self.project)
        if url.path == "/api/tasks/":
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            chosen = sorted(self.tasks.values(), key=lambda task: task["id"])
            for rule in json.loads(query["query"])["filters"]["items"]:
                chosen = [task for task in chosen if _fits(task, rule)]
            size = int(query["page_size"])
            first = (int(query["page"]) - 1) * size
            shown = chosen[first : first + size]
            if query["fields"] != "all":
                shown = [{"id": task["id"], "data": task["data"]} for task in shown]
            return reply(handler, 200, {"tasks": shown, "total": len(chosen)})
        if handler.command == "PATCH" and url.path.startswith("/api/tasks/"):
            self.tasks[int(url.path.split("/")[3])] |= json.loads(body or b"{}")
            return reply(handler, 200, {"id": 1})
        if url.path == "/api/dm/views/":
            if handler.command == "POST":
                self.tabs.append(json.loads(body or b"{}"))
            return reply(handler, 200, json.dumps(self.tabs).encode())
        if url.path == "/api/projects/1/file-uploads":
            ids = json.loads(parse_qs(url.query)["ids"][0])
            return reply(handler, 200, json.dumps([self.uploads[i] for i in sorted(ids)]).encode())
        if url.path == "/api/projects/1/import" and "commit_to_project=false" in url.query:
            return reply(
                handler, 201, {"file_upload_ids": [self._keep(*file) for file in _files(handler, body or b"")]}
            )
        if url.path == "/api/projects/1/import" and handler.headers.get_content_type() == "application/json":
            return reply(handler, 201, {"task_count": sum(map(self._make, json.loads(body or b"[]")))})
        if url.path == "/api/projects/1/import/predictions":
            for made in json.loads(body or b"[]"):
                self.tasks[made["task"]]["predictions"].append({"id": next(self._numbers), **made})
            return reply(handler, 201, {"created": 1})
        if handler.command == "DELETE" and url.path.startswith("/api/predictions/"):
            number = int(url.path.split("/")[3])
            for task in self.tasks.values():
                task["predictions"] = [p for p in task["predictions"] if p["id"] != number]
            return reply(handler, 204)
        return super()._api(handler, path, body)


def _files(handler: BaseHTTPRequestHandler, body: bytes) -> list[tuple[str, bytes]]:
    """The files of a form, in their order."""
    environ = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": handler.headers["Content-Type"],
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    form = parse_form_data(environ)[2]
    found = []
    for _, file in form.items(multi=True):
        with file.stream:
            found.append((str(file.filename), file.read()))
    return found


def _fits(task: dict[str, Any], rule: dict[str, Any]) -> bool:
    column = rule["filter"].removeprefix("filter:tasks:")
    done = [a for a in task["annotations"] if not a["was_cancelled"]]
    value = {"id": task["id"], "total_annotations": len(done)}[column]
    return bool(value > rule["value"] if rule["operator"] == "greater" else value == rule["value"])


@dataclass(frozen=True)
class FinetuneConfig:
    steps: int = 10


@dataclass(frozen=True)
class Outcome:
    is_better: bool
    reason: str
    before: dict[str, float] = field(default_factory=lambda: {"miou": 0.5})
    after: dict[str, float] = field(default_factory=lambda: {"miou": 0.6})
    seconds: float = 1.5


@dataclass
class FakeLearner:
    """Writes a version and says that it is better, or whatever it is told to."""

    is_better: bool = True
    leaves_nothing: bool = False
    calls: list[dict[str, Any]] = field(default_factory=list)
    before_writing: Callable[[], None] = lambda: None
    after_writing: Callable[[], object] = lambda: None

    def __call__(self, start: Path, train: Any, held_back: Any, out: Path, **options: Any) -> Outcome:
        self.calls.append({"start": start, "train": train, "held_back": held_back, "out": out, **options})
        options["report"]("learns", 0.5)
        self.before_writing()
        if not self.leaves_nothing:
            (out / "model.safetensors").write_bytes(f"weights of {options['version']}".encode())
            (out / "info.json").write_text(json.dumps({"version": options["version"]}))
        self.after_writing()
        return Outcome(self.is_better, "fewer clicks" if self.is_better else "more clicks")

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeLearner:
        """Takes the place of the real learner, which needs minutes."""
        module = ModuleType("ihp_backend.training.finetune")
        module.finetune = self  # type: ignore[attr-defined]
        module.FinetuneConfig = FinetuneConfig  # type: ignore[attr-defined]
        module.THOROUGH = FinetuneConfig(steps=1000)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "ihp_backend.training.finetune", module)
        return self
