"""`ihp import` into a Label Studio of one project; its masks are decoded by the SDK."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fake_label_studio import LEGACY
from fake_project import CONFIG, FakeProject
from label_studio_sdk.converter import brush
from layouts import MAKERS, put
from PIL import Image

from ihp_backend.cli import main
from ihp_backend.data.catalogue import open_data_set
from ihp_backend.demo.project import label_config_of
from ihp_backend.label_studio.importing import PHOTOS_A_REQUEST
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import IGNORE, SCHEMAS

SIZE = (48, 64)


@pytest.fixture
def project() -> Iterator[FakeProject]:
    with FakeProject() as fake:
        yield fake


def run(project: FakeProject, data: Path, *options: str, command: str = "import") -> Result:
    environ = {
        "IHP_LABEL_STUDIO_URL": project.url,
        "IHP_LABEL_STUDIO_TOKEN": LEGACY,
        "IHP_DATA_DIR": str(data.parent / "state"),
    }
    where = ["--data", str(data)] if command == "import" else ["--out", str(data)]
    return CliRunner(env=environ).invoke(main, [command, "--project", "1", *where, *options])


def own_data(root: Path, count: int = 25) -> Path:
    """A folder of the project's own classes; photo i has other pixels and masks than any other."""
    rng = np.random.default_rng(5)
    for i in range(count):
        put(root / f"images/photo {i}.png", rng.integers(0, 255, (*SIZE, 3), np.uint8))
        labels = rng.integers(0, 4, (6, 8), np.uint8).repeat(8, 0).repeat(8, 1)
        labels[0, 0] = IGNORE
        put(root / f"labels/photo {i}.png", labels)
    classes = [{"id": i, "name": n} for i, n in enumerate(("background", "tattoo", "trousers", "face"))]
    (root / "classes.json").write_text(json.dumps({"classes": classes}))
    (root / "splits").mkdir()
    (root / "splits/train.txt").write_text("".join(f"photo {i}.png\n" for i in range(count - 5)))
    (root / "splits/test.txt").write_text("".join(f"photo {i}.png\n" for i in range(count - 5, count)))
    return root


def masks_of(regions: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for region in regions:
        shape = region["original_height"], region["original_width"]
        alpha = brush.decode_rle(region["value"]["rle"]).reshape(*shape, 4)[..., 3]
        (label,) = region["value"]["brushlabels"]
        found[label] = found.get(label, np.zeros(shape, bool)) | (alpha > 127)
    return found


@pytest.mark.parametrize("kind", ["predictions", "annotations"])
def test_every_photo_becomes_a_task_with_its_masks(tmp_path: Path, project: FakeProject, kind: str) -> None:
    root = own_data(tmp_path / "data")
    done = run(project, root, "--as", kind)
    assert done.exit_code == 0, done.output
    assert f"25 tasks made with their masks as {kind}, 0 were there" in done.output
    other = {"predictions": "annotations", "annotations": "predictions"}[kind]
    seen = set()
    for task in project.tasks.values():
        name = task["data"]["ihp_name"]
        seen.add(name)
        assert task["data"]["ihp_split"] == ("test" if int(name.split()[1]) >= 20 else "train")
        assert project.files[task["data"]["image"].replace("%20", " ")] == (root / f"images/{name}.png").read_bytes()
        assert not task[other]
        (made,) = task[kind]
        labels = np.array(Image.open(root / f"labels/{name}.png"))
        expected = {label: labels == i for i, label in enumerate(("Tattoo", "Trousers", "Face"), 1)}
        masks = masks_of(made["result"])
        assert masks.keys() == {label for label, mask in expected.items() if mask.any()}
        assert all((masks[label] == expected[label]).all() for label in masks)
    assert len(seen) == 25


def test_export_gives_back_what_was_imported(tmp_path: Path, project: FakeProject) -> None:
    root = own_data(tmp_path / "data")
    run(project, root, "--as", "annotations")
    done = run(project, tmp_path / "out", command="export")
    assert done.exit_code == 0, done.output
    for split in ("train", "test"):
        before, after = open_data_set(root, split), open_data_set(tmp_path / "out", split)
        assert after.names == before.names
        place = {normal: i for i, normal in enumerate(("background", "Face", "Trousers", "Tattoo"))}
        ids = np.array([place[n] for n in ("background", "Tattoo", "Trousers", "Face")], np.uint8)
        for i in range(len(before)):
            known = np.where(before[i].labels == IGNORE, 0, before[i].labels)
            assert (after[i].labels == ids[known]).all()
            assert (after[i].image == before[i].image).all()


@pytest.mark.parametrize("layout", list(MAKERS))
def test_all_layouts_are_imported_and_come_back_in_their_own(tmp_path: Path, layout: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    MAKERS[layout](root)
    schema = "lip" if layout == "folder" else layout
    with FakeProject() as project:
        project.project["label_config"] = label_config_of(schema)
        done = run(project, root, "--layout", layout, "--as", "annotations")
        assert done.exit_code == 0, done.output
        assert "2 tasks made" in done.output
        assert run(project, tmp_path / "out", "--layout", layout, command="export").exit_code == 0
    before, after = open_data_set(root, "train", layout), open_data_set(tmp_path / "out", "train", layout)
    assert list(after.names) == list(before.names)
    assert after.schema is SCHEMAS[schema]
    for i in range(2):
        assert (after[i].labels == before[i].labels).all()
        assert (after[i].image == before[i].image).all()


def test_people_of_cihp_are_masks_of_their_own_and_come_back(tmp_path: Path, project: FakeProject) -> None:
    root = tmp_path / "data"
    MAKERS["cihp"](root)
    base = root / "instance-level_human_parsing" / "Training"
    labels = np.array(Image.open(base / "Category_ids" / "0000001.png"))
    people = np.where(labels > 0, np.arange(18) // 6, 0).astype(np.uint8)  # nobody, 1 and 2
    put(base / "Human_ids" / "0000001.png", people)
    project.project["label_config"] = label_config_of("cihp")
    assert run(project, root, "--layout", "cihp", "--as", "annotations").exit_code == 0
    run(project, tmp_path / "out", "--layout", "cihp", command="export")
    (written,) = (tmp_path / "out").rglob("Human_ids/0000001.png")
    assert (np.array(Image.open(written)) == people).all()
    (category,) = (tmp_path / "out").rglob("Category_ids/0000001.png")
    assert (np.array(Image.open(category)) == labels).all()


def test_again_makes_no_task_twice_and_a_stop_is_taken_up(tmp_path: Path, project: FakeProject) -> None:
    root = own_data(tmp_path / "data")
    imports: list[str] = []

    def stop(path: str) -> None:
        if path == "/api/projects/1/import":
            imports.append(path)
        if len(imports) == 2:
            project.fails["/api/projects/1/import"] = 503

    project.after.append(stop)
    stopped = run(project, root)
    assert stopped.exit_code == 1
    assert "503" in stopped.output
    assert len(project.tasks) == PHOTOS_A_REQUEST
    project.after.clear()
    project.fails.clear()
    assert "15 tasks made" in run(project, root).output
    assert len(project.tasks) == 25
    again = run(project, root)
    assert "0 tasks made with their masks as predictions, 25 were there" in again.output
    assert len(project.tasks) == 25
    elsewhere = shutil.copytree(root, tmp_path / "copy" / "moved")
    assert "25 were there" in run(project, elsewhere).output


def test_a_photo_of_the_same_name_in_another_data_set_is_another_one(tmp_path: Path, project: FakeProject) -> None:
    run(project, own_data(tmp_path / "a", 6))
    other = own_data(tmp_path / "b", 6)
    put(other / "images/photo 0.png", np.zeros((*SIZE, 3), np.uint8))
    assert "1 tasks made" in run(project, other).output


def test_a_broken_data_set_is_refused_before_the_first_upload(tmp_path: Path, project: FakeProject) -> None:
    root = own_data(tmp_path / "data")
    (root / "images/photo 3.png").write_bytes((root / "images/photo 3.png").read_bytes()[:50])
    (root / "labels/photo 7.png").unlink()
    put(root / "labels/photo 9.png", np.zeros((8, 8), np.uint8))
    put(root / "labels/photo 11.png", np.full(SIZE, 77, np.uint8))
    refused = run(project, root)
    assert refused.exit_code == 1
    assert "4 photos cannot be imported, nothing was uploaded" in refused.output
    for named in (
        "images/photo 3.png",
        "labels/photo 7.png is missing",
        "'photo 9'",
        "labels/photo 11.png has the ids",
    ):
        assert named in refused.output
    assert project.writes() == []


def test_a_class_without_a_label_is_told_before_anything_is_written(tmp_path: Path, project: FakeProject) -> None:
    root = own_data(tmp_path / "data")
    project.project["label_config"] = CONFIG.replace('<Label value="Tattoo"/>', "")
    refused = run(project, root)
    assert refused.exit_code == 1
    assert "no label of the project means tattoo" in refused.output
    assert "--without 'tattoo'" in refused.output
    assert project.writes() == []
    done = run(project, root, "--without", "tattoo")
    assert done.exit_code == 0, done.output
    used = {r["value"]["brushlabels"][0] for t in project.tasks.values() for r in t["predictions"][0]["result"]}
    assert used == {"Trousers", "Face"}
    assert "expected" not in done.output
    unknown = run(project, root, "--without", "elbow")
    assert "the classes are tattoo, trousers, face" in unknown.output


def test_a_label_may_mean_several_classes_by_predicted_values(tmp_path: Path, project: FakeProject) -> None:
    root = own_data(tmp_path / "data")
    skin = '<Label value="Skin" predicted_values="tattoo,face"/>'
    config = CONFIG.replace('<Label value="Face"/>', skin).replace('<Label value="Tattoo"/>', "")
    project.project["label_config"] = config
    done = run(project, root)
    assert "Skin (tattoo, face)" in done.output
    for task in project.tasks.values():
        labels = np.array(Image.open(root / f"labels/{task['data']['ihp_name']}.png"))
        assert (masks_of(task["predictions"][0]["result"])["Skin"] == np.isin(labels, [1, 3])).all()


def test_photos_may_stay_where_they_are(tmp_path: Path, project: FakeProject) -> None:
    root = own_data(tmp_path / "data", 6)
    for path in (root / "images").iterdir():
        project.files[f"/data/local-files/?d=set/images/{path.name.replace(' ', '%20')}"] = path.read_bytes()
    done = run(project, root, "--photos-at", "/data/local-files/?d=set/")
    assert done.exit_code == 0, done.output
    assert not project.uploads
    found = {task["data"]["ihp_name"]: task["data"]["image"] for task in project.tasks.values()}
    assert found["photo 3"] == "/data/local-files/?d=set/images/photo%203.png"
    assert sorted(found) == [f"photo {i}" for i in range(6)]


def test_a_wrong_place_of_the_photos_is_noticed_before_anything_is_written(
    tmp_path: Path, project: FakeProject
) -> None:
    root = own_data(tmp_path / "data", 6)
    refused = run(project, root, "--photos-at", "/data/local-files/?d=elsewhere/")
    assert refused.exit_code == 1
    assert "nothing was imported" in refused.output
    project.files["/data/local-files/?d=elsewhere/images/photo%200.png"] = b"another"
    assert "is another file than" in run(project, root, "--photos-at", "/data/local-files/?d=elsewhere/").output
    assert project.tasks == {}


def test_splits_are_chosen_and_missing_ones_told(tmp_path: Path, project: FakeProject) -> None:
    root = own_data(tmp_path / "data")
    assert "5 tasks made" in run(project, root, "--split", "test").output
    (tmp_path / "lip").mkdir()
    MAKERS["lip"](tmp_path / "lip")
    project.project["label_config"] = label_config_of("lip")
    done = run(project, tmp_path / "lip", "--layout", "lip")
    assert "note: no split val" in done.output
    assert "2 tasks made" in done.output
    refused = run(project, tmp_path / "lip", "--layout", "lip", "--split", "val")
    assert refused.exit_code == 1
    assert "lacks val_images" in refused.output


def test_a_folder_without_splits_is_imported_whole(tmp_path: Path, project: FakeProject) -> None:
    root = own_data(tmp_path / "data", 6)
    shutil.rmtree(root / "splits")
    assert "6 tasks made" in run(project, root).output
    assert all("ihp_split" not in task["data"] for task in project.tasks.values())


def test_imported_masks_are_of_the_brush_that_is_clicked_with(tmp_path: Path, project: FakeProject) -> None:
    run(project, own_data(tmp_path / "data", 6))
    config = LabelConfig.parse(CONFIG)
    regions = [r for task in project.tasks.values() for r in task["predictions"][0]["result"]]
    assert regions
    assert all(config.is_painted(region) for region in regions)


class Deaf(FakeProject):
    """Makes the tasks of an import, but its answer is lost."""

    lost = 0

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes | None) -> None:
        if self.lost and handler.path == "/api/projects/1/import":
            self.lost -= 1
            handler.wfile = io.BytesIO()
            handler.close_connection = True
        super().answer(handler, body)


def test_tasks_whose_answer_was_lost_are_not_made_again(tmp_path: Path) -> None:
    with Deaf() as project:
        project.lost = 1
        stopped = run(project, own_data(tmp_path / "data"))
        assert stopped.exit_code == 1
        assert len(project.tasks) == PHOTOS_A_REQUEST
        assert "15 tasks made with their masks as predictions, 10 were there" in run(project, tmp_path / "data").output
    assert len({task["data"]["ihp_name"] for task in project.tasks.values()}) == len(project.tasks) == 25
