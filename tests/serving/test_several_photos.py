"""Tasks of several photos: what is clicked, predicted, learnt and exported of each is on that one."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend import json_of
from click.testing import CliRunner
from fake_label_studio import LEGACY, FakeLabelStudio
from fake_project import FakeProject, box, region
from fakes import DiscModel, png
from flask.testing import FlaskClient
from label_studio_sdk.converter import brush
from layouts import put
from paged_configs import CONFIGS, data_of, on_photo

from ihp_backend.cli import main
from ihp_backend.data.catalogue import open_data_set
from ihp_backend.data.folder import FolderDataSet
from ihp_backend.data.sample import Sample
from ihp_backend.label_studio.annotated_tasks import Photos, read_tasks
from ihp_backend.label_studio.exporting import FURTHER_PHOTO
from ihp_backend.label_studio.image_decoding import ImageError
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.serving.application import create_app
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings

PROJECT = "5.1795392500"
SIZES = ((120, 160), (90, 60))
"""Width and height of the two photos."""
URLS = ("/data/upload/1/a.png", "/data/upload/1/b.png")
FACE, HAIR = box(slice(0, 20), slice(0, 30)), box(slice(10, 40), slice(20, 64))


@pytest.fixture
def studio() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as fake:
        fake.files |= {url: png(*size) for url, size in zip(URLS, SIZES, strict=True)}
        yield fake


@pytest.fixture
def model() -> DiscModel:
    return DiscModel()


@pytest.fixture
def client(studio: FakeLabelStudio, model: DiscModel, tmp_path: Path) -> FlaskClient:
    environment = {"IHP_DATA_DIR": str(tmp_path), "IHP_LABEL_STUDIO_URL": studio.url, "IHP_LABEL_STUDIO_TOKEN": LEGACY}
    return create_app(runtime=Runtime(Settings.from_environment(environment), lambda: model)).test_client()


def ask(client: FlaskClient, kind: str, clicks: list[dict[str, Any]] | None, **task: Any) -> dict[str, Any]:
    body = {
        "tasks": [{"id": 7, "data": data_of(kind, *URLS), "annotations": [], "drafts": [], "predictions": []} | task],
        "project": PROJECT,
        "label_config": CONFIGS[kind],
        "params": {"context": {"result": clicks} if clicks else None},
    }
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    return dict(json_of(answer)["results"][0])


def point(kind: str, place: int, label: str = "Face", x: float = 50.0) -> dict[str, Any]:
    value = {"x": x, "y": 50.0, "width": 0.3, "keypointlabels": [label]}
    about = {"id": f"k{place}{label}{x}", "type": "keypointlabels", "is_positive": True, "value": value}
    return about | on_photo(kind, place, "click")


def where(found: dict[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("from_name", "to_name", "item_index") if key in found}


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("place", [0, 1])
def test_a_click_is_answered_on_its_photo(client: FlaskClient, model: DiscModel, kind: str, place: int) -> None:
    """Open points of the same label on the other photo come along; they are not this photo's."""
    other = point(kind, 1 - place, x=10.0)
    (found,) = ask(client, kind, [other, point(kind, place)])["result"]
    assert where(found) == on_photo(kind, place, "mask")
    width, height = SIZES[place]
    assert (found["original_width"], found["original_height"]) == (width, height)
    (clicked,) = model.calls[-1]["clicks"]
    assert (clicked.x, clicked.y) == (width / 2, height / 2)


@pytest.mark.parametrize("kind", CONFIGS)
def test_accepted_masks_keep_others_off_on_their_own_photo_alone(client: FlaskClient, kind: str) -> None:
    for place, (width, height) in enumerate(SIZES):
        mask = np.ones((height, width), bool)
        mask[:, : width // 2] = False
        accepted = region("Hair", mask, **on_photo(kind, place, "mask"))
        draft = [{"id": 1, "result": [accepted], "created_at": "2026-11-24T00:00:00Z"}]
        for clicked in (0, 1):
            (found,) = ask(client, kind, [point(kind, clicked, x=40.0)], drafts=draft)["result"]
            w, h = SIZES[clicked]
            alpha = brush.decode_rle(found["value"]["rle"]).reshape(h, w, 4)[..., 3]
            assert bool(alpha[:, w // 2 :].any()) == (clicked != place)
            assert alpha[:, : w // 2].any()


@pytest.mark.parametrize("kind", CONFIGS)
def test_without_a_click_each_photo_gets_its_masks(client: FlaskClient, studio: FakeLabelStudio, kind: str) -> None:
    found = ask(client, kind, None)
    assert "error" not in found
    expected = [(on_photo(kind, place, "mask"), SIZES[place]) for place in (0, 0, 1, 1)]
    assert [(where(r), (r["original_width"], r["original_height"])) for r in found["result"]] == expected
    assert len({r["id"] for r in found["result"]}) == 4
    del studio.files[URLS[1]]
    again = ask(client, kind, None, id=8, data=data_of(kind, URLS[0], URLS[1] + "?gone"))
    assert [where(r) for r in again["result"]] == [on_photo(kind, 0, "mask")] * 2
    assert "404" in again["error"]


@pytest.mark.parametrize("kind", ["valueList", "repeater"])
def test_a_task_without_a_list_breaks_neither_a_click_nor_a_batch(client: FlaskClient, kind: str) -> None:
    for clicks in (None, [point(kind, 0)]):
        found = ask(client, kind, clicks, data={"photos": "one.png"})
        assert found["result"] == []
        assert "expected a list of 1 to 100 photos" in found["error"]
    beyond = ask(client, kind, [point(kind, 5)])
    assert beyond["result"] == [], "a page that the task does not have"


def annotated(kind: str, number: int = 3) -> dict[str, Any]:
    """A task whose first photo has a face, the second one hair; both have 64x48 pixels."""
    regions = [
        region("Face", FACE, **on_photo(kind, 0, "mask")),
        region("Hair", HAIR, **on_photo(kind, 1, "mask")),
    ]
    made = {"id": 100 + number, "result": regions, "was_cancelled": False, "updated_at": "2026-11-23T01"}
    return {"id": number, "data": data_of(kind, *URLS), "annotations": [made], "predictions": []}


@pytest.mark.parametrize("kind", CONFIGS)
def test_each_photo_is_learnt_with_its_own_masks(kind: str) -> None:
    def fetch(url: str) -> bytes:
        if url not in URLS:
            raise ImageError("the image cannot be had")
        return png(64, 48)

    config = LabelConfig.parse(CONFIGS[kind])
    reading = read_tasks([annotated(kind)], config, fetch, 10**6)
    assert reading.left_out == []
    assert [(photo.task, photo.url) for photo in reading.photos] == [(3, URLS[0]), (3, URLS[1])]
    photos = Photos(reading.photos, {"Face": ("face",), "Hair": ("hair",)}, fetch, 10**6)
    assert photos.names == ["task-3", "task-3-photo-2"]
    assert np.array_equal(photos[0].labels, 1 * FACE)
    assert np.array_equal(photos[1].labels, 2 * HAIR)
    gone = annotated(kind) | {"data": data_of(kind, URLS[0], "/data/gone.png")}
    reading = read_tasks([gone], config, fetch, 10**6)
    assert len(reading.photos) == 1
    assert reading.left_out == ["task 3, photo 2: the image cannot be had"]


def run(command: str, project: FakeProject, *options: str, state: Path) -> str:
    environ = {
        "IHP_LABEL_STUDIO_URL": project.url,
        "IHP_LABEL_STUDIO_TOKEN": LEGACY,
        "IHP_DATA_DIR": str(state),
    }
    done = CliRunner(env=environ).invoke(main, [command, "--project", "1", *options])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("kind", CONFIGS)
def test_each_photo_is_exported_with_its_own_masks(tmp_path: Path, kind: str) -> None:
    with FakeProject() as project:
        project.project["label_config"] = CONFIGS[kind]
        project.files |= {URLS[0]: png(64, 48), URLS[1]: png(64, 48)}
        project.tasks = {number: annotated(kind, number) for number in range(1, 7)}
        out = tmp_path / "out"
        assert "6 tasks" not in run("export", project, "--out", str(out), state=tmp_path / "s")
        assert "0 tasks written, 12 were there" in run("export", project, "--out", str(out), state=tmp_path / "s")
        coco = tmp_path / "coco"
        run("export", project, "--layout", "coco", "--out", str(coco), state=tmp_path / "s")
    rows = list(csv.DictReader((out / "report.csv").read_text().splitlines()))
    assert [(row["task"], row["photo_of_task"]) for row in rows] == [(str(n), p) for n in range(1, 7) for p in "12"]
    assert not any(row["not_exported"] for row in rows)
    split_of = {(row["task"], row["split"]) for row in rows}
    assert len(split_of) == 6, "the photos of a task are on one side"
    place_of = {row["photo"]: row["photo_of_task"] for row in rows}
    seen = 0
    for split in ("train", "val"):
        data = open_data_set(out, split)
        for i, name in enumerate(data.names):
            assert np.array_equal(data[i].labels, 1 * FACE if place_of[name] == "1" else 2 * HAIR)
            seen += 1
        found = json.loads((coco / f"annotations/instances_{split}.json").read_text())
        for image in found["images"]:
            categories = [a["category_id"] for a in found["annotations"] if a["image_id"] == image["id"]]
            assert categories == ([2] if image["id"] > FURTHER_PHOTO else [1])
    assert seen == 12


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_import_makes_tasks_of_one_photo_that_comes_back(tmp_path: Path, kind: str) -> None:
    data = tmp_path / "data"
    for i in range(4):
        put(data / f"images/{i}.png", np.full((48, 64, 3), 40 * i, np.uint8))
        put(data / f"labels/{i}.png", (1 + i % 2) * FACE.astype(np.uint8))
    classes = [{"id": i, "name": n} for i, n in enumerate(("background", "face", "hair"))]
    (data / "classes.json").write_text(json.dumps({"classes": classes}))
    with FakeProject() as project:
        project.project["label_config"] = CONFIGS[kind]
        options = ["--data", str(data), "--as", "annotations"]
        told = run("import", project, *options, state=tmp_path / "s")
        assert ("none for image_1" in told) == (kind == "two images")
        task = next(iter(project.tasks.values()))
        view = LabelConfig.parse(CONFIGS[kind]).of_task(task).photos()[0]
        assert where(task["annotations"][0]["result"][0]) == on_photo(kind, 0, "mask")
        assert view.value.startswith("$")
        run("export", project, "--out", str(tmp_path / "out"), state=tmp_path / "s")
    found: dict[str, Sample] = {}
    for split in ("train", "val"):
        after = open_data_set(tmp_path / "out", split)
        found |= {after.names[i]: after[i] for i in range(len(after))}
    before = FolderDataSet(data)
    assert sorted(found) == sorted(before.names)
    for i, name in enumerate(before.names):
        assert np.array_equal(found[name].labels, before[i].labels)
        assert np.array_equal(found[name].image, before[i].image)
