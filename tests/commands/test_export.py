"""`ihp export` from a Label Studio of one project, read again by pycocotools, Pillow and our loaders."""

from __future__ import annotations

import csv
import errno
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fake_label_studio import LEGACY
from fake_project import CONFIG, PROJECT, FakeProject, box, region
from PIL import Image
from pycocotools.coco import COCO

from ihp_backend.cli import main
from ihp_backend.data.catalogue import open_data_set
from ihp_backend.data.layout_writers import WRITERS
from ihp_backend.data.split import Split
from ihp_backend.demo.project import label_config_of
from ihp_backend.files import write_whole
from ihp_backend.label_studio import export_folder
from ihp_backend.label_studio.export_folder import file_name, photo_name
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import LIP, SCHEMAS

FACE, LEGS = box(slice(0, 20), slice(0, 30)), box(slice(10, 40), slice(20, 64))
IDS = {"Face": LIP.names.index("face"), "Trousers": LIP.names.index("pants")}


def labels_of(face: int, legs: int) -> np.ndarray[Any, Any]:
    labels = np.zeros((48, 64), np.uint8)
    labels[FACE] = face
    labels[LEGS] = legs
    return labels


@pytest.fixture
def project() -> Iterator[FakeProject]:
    with FakeProject() as fake:
        for number in range(1, 13):
            fake.add(number, region("Face", FACE), region("Trousers", LEGS))
        yield fake


def run(project: FakeProject, out: Path, *options: str, data_dir: Path | None = None) -> Result:
    environ = {
        "IHP_LABEL_STUDIO_URL": project.url,
        "IHP_LABEL_STUDIO_TOKEN": LEGACY,
        "IHP_DATA_DIR": str(data_dir or out.parent / "data"),
    }
    return CliRunner(env=environ).invoke(main, ["export", "--project", "1", "--out", str(out), *options])


def rows(out: Path) -> dict[int, dict[str, str]]:
    return {int(row["task"]): row for row in csv.DictReader((out / "report.csv").read_text().splitlines())}


def files(out: Path) -> dict[str, int]:
    """All files of an export, and when they were written."""
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}


def photos_fetched(project: FakeProject) -> list[str]:
    return [path for path in project.paths() if path.startswith("/data/upload")]


def samples(out: Path, layout: str = "folder") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for split in ("train", "val"):
        data = open_data_set(out, split, layout)
        found |= {data.names[i]: data[i] for i in range(len(data))}
    return found


@pytest.mark.parametrize("layout", ["lip", "cihp", "folder"])
def test_our_loaders_read_what_is_exported(tmp_path: Path, project: FakeProject, layout: str) -> None:
    done = run(project, tmp_path / "out", "--layout", layout)
    assert done.exit_code == 0, done.output
    expected = labels_of(1, 2) if layout == "folder" else labels_of(IDS["Face"], IDS["Trousers"])
    found = samples(tmp_path / "out", layout)
    assert sorted(found) == sorted(f"photo-{number}" for number in range(1, 13))
    photo = np.array(Image.open(io.BytesIO(project.files["/data/upload/1/photo-1.png"])))
    for sample in found.values():
        assert (sample.labels == expected).all()
        assert (sample.image == photo).all()


@pytest.mark.parametrize("schema", list(SCHEMAS))
def test_every_label_set_goes_into_its_own_layout_and_into_a_folder_of_it(tmp_path: Path, schema: str) -> None:
    parts = SCHEMAS[schema]
    masks = [box(slice(2 * i, 2 * i + 2), slice(0, 64)) for i in range(len(parts))]
    config = LabelConfig.parse(label_config_of(schema))
    label_of = {names[0]: label for label, names in config.parts(parts).items()}
    with FakeProject() as project:
        project.project["label_config"] = label_config_of(schema)
        for number in range(1, 13):
            painted = [
                region(label_of[name], mask, from_name=config.brush)
                for name, mask in zip(parts.names[1:], masks[1:], strict=True)
            ]
            project.add(number, *painted)
        expected = np.repeat(np.arange(24), 2)[:, None].repeat(64, 1)
        expected[expected >= len(parts)] = 0
        for layout in (schema, "folder"):
            done = run(project, tmp_path / layout, "--layout", layout)
            assert done.exit_code == 0, done.output
            assert "note:" not in done.output
            found = samples(tmp_path / layout, layout)
            assert all((sample.labels == expected).all() for sample in found.values())
            assert open_data_set(tmp_path / layout, "val", layout).schema is parts


def test_pycocotools_reads_an_annotation_for_each_mask(tmp_path: Path, project: FakeProject) -> None:
    tattoo = region("Tattoo", FACE & LEGS, meta={"text": ["person 3"]})
    project.add(20, region("Trousers", LEGS), tattoo, region("Face", FACE))
    assert run(project, tmp_path / "out", "--layout", "coco").exit_code == 0
    seen = {}
    for split in ("train", "val"):
        coco = COCO(str(tmp_path / "out" / "annotations" / f"instances_{split}.json"))
        for image in coco.loadImgs(coco.getImgIds()):
            with Image.open(tmp_path / "out" / split / image["file_name"]) as photo:
                assert photo.size == (image["width"], image["height"]) == (64, 48)
            found = coco.loadAnns(coco.getAnnIds(image["id"]))
            names = [coco.loadCats(a["category_id"])[0]["name"] for a in found]
            seen[image["id"]] = [(name, coco.annToMask(a)) for name, a in zip(names, found, strict=True)]
            if image["id"] == 20:
                assert [a.get("attributes") for a in found] == [None, {"person": 3}, None]
    assert sorted(seen) == [*range(1, 13), 20]
    assert [name for name, _ in seen[20]] == ["Trousers", "Tattoo", "Face"]
    for (_, mask), expected in zip(seen[20], (LEGS, FACE & LEGS, FACE), strict=True):
        assert (mask == expected).all()
    assert rows(tmp_path / "out")[20]["overlapping_pixels"] == str((FACE & LEGS).sum())


def polygon(label: str, identifier: str, *corners: tuple[int, int]) -> dict[str, Any]:
    points = [[x * 100 / 64, y * 100 / 48] for x, y in corners]
    value = {"points": points, "closed": True, "polygonlabels": [label]}
    return region(label, FACE, id=identifier, type="polygonlabels", from_name="outline", value=value)


def rectangle(label: str, x: int, y: int, width: int, height: int) -> dict[str, Any]:
    place = {"x": x * 100 / 64, "y": y * 100 / 48, "width": width * 100 / 64, "height": height * 100 / 48}
    value = {**place, "rotation": 0, "rectanglelabels": [label]}
    return region(label, FACE, type="rectanglelabels", from_name="box", value=value)


def with_control(project: FakeProject, name: str, tag: str) -> None:
    xml = CONFIG.replace("BrushLabels", tag).replace('name="mask"', f'name="{name}"')
    project.project["label_config"] = xml


def test_polygons_are_filled_and_the_pieces_of_a_mask_are_one(tmp_path: Path, project: FakeProject) -> None:
    with_control(project, "outline", "PolygonLabels")
    project.tasks.clear()
    one, two = ((2, 2), (12, 2), (12, 12), (2, 12)), ((30, 20), (40, 20), (40, 30), (30, 30))
    project.add(1, polygon("Face", "a", *one), polygon("Face", "a.2", *two), polygon("Trousers", "b", (50, 0), (60, 9)))
    assert "task 1" in run(project, tmp_path / "bad", "--layout", "coco").output  # two points are no polygon
    project.tasks.clear()
    project.add(1, polygon("Face", "a", *one), polygon("Face", "a.2", *two), polygon("Trousers", "b", *one))
    assert run(project, tmp_path / "coco", "--layout", "coco").exit_code == 0
    (lists,) = (tmp_path / "coco/annotations").glob("*.json")
    coco = COCO(str(lists))
    face, trousers = coco.loadAnns(coco.getAnnIds())
    expected = box(slice(2, 12), slice(2, 12)) | box(slice(20, 30), slice(30, 40))
    assert np.array_equal(coco.annToMask(face) > 0, expected)
    assert np.array_equal(coco.annToMask(trousers) > 0, box(slice(2, 12), slice(2, 12)))


def test_rectangles_are_boxes_for_coco_and_nothing_for_the_others(tmp_path: Path, project: FakeProject) -> None:
    with_control(project, "box", "RectangleLabels")
    project.tasks.clear()
    project.add(1, rectangle("Face", 5, 10, 20, 30))
    assert run(project, tmp_path / "coco", "--layout", "coco").exit_code == 0
    (lists,) = (tmp_path / "coco/annotations").glob("*.json")
    (found,) = COCO(str(lists)).dataset["annotations"]
    assert (found["bbox"], found["area"], found["segmentation"]) == ([5, 10, 20, 30], 600, [])
    output = run(project, tmp_path / "lip", "--layout", "lip").output
    assert "rectangles only, which do not tell the pixels" in output


def test_overlaps_gaps_and_labels_without_a_class_are_counted_and_told(tmp_path: Path, project: FakeProject) -> None:
    ring = box(slice(30, 48), slice(40, 64)) & ~box(slice(35, 40), slice(45, 50))
    project.add(30, region("Face", FACE), region("Trousers", ring), region("Tattoo", box(slice(0, 25), slice(0, 5))))
    done = run(project, tmp_path / "out", "--layout", "lip")
    assert "note: Tattoo is no class of lip" in done.output
    row = rows(tmp_path / "out")[30]
    assert (row["overlapping_pixels"], row["gap_pixels"], row["pixels_without_class"]) == ("0", "25", "25")
    assert rows(tmp_path / "out")[1]["overlaps"] == "Trousers over Face: 100"
    assert "1200 pixels of several masks in 12 tasks; the later mask wins" in done.output
    assert "25 pixels without a mask" in done.output
    labels = samples(tmp_path / "out", "lip")["photo-30"].labels
    assert (labels[20:25, :5] == 255).all()
    assert (labels[:20, :5] == IDS["Face"]).all()


def test_a_stopped_export_goes_on_where_it_was(tmp_path: Path, project: FakeProject) -> None:
    out = tmp_path / "out"
    project.fails["photo-7."] = 503
    project.fails["whoami"] = 503
    stopped = run(project, out)
    assert stopped.exit_code == 1
    assert "503" in stopped.output
    assert not (out / "classes.json").exists()
    project.fails.clear()
    before = len(photos_fetched(project))
    done = run(project, out)
    assert done.exit_code == 0, done.output
    kept = int(done.output.partition(" were there")[0].rpartition(" ")[2])
    assert kept > 0
    assert len(photos_fetched(project)) - before == 12 - kept
    assert len(samples(out)) == 12


def test_only_what_has_changed_is_written_again(tmp_path: Path, project: FakeProject) -> None:
    out = tmp_path / "out"
    run(project, out)
    before, fetched = files(out), len(photos_fetched(project))
    again = run(project, out)
    assert "0 tasks written, 12 were there" in again.output
    assert len(photos_fetched(project)) == fetched
    unchanged = {path for path, at in files(out).items() if before.get(path) == at}
    assert {path for path in before if path.startswith(("images", "labels"))} <= unchanged
    project.tasks[3]["annotations"][0] |= {"updated_at": "2026-12-01", "result": [region("Face", LEGS)]}
    project.tasks[5]["annotations"][0]["was_cancelled"] = True
    (out / "labels" / "photo-7.png").unlink()
    done = run(project, out)
    assert "2 tasks written, 9 were there, 1 removed" in done.output
    found = samples(out)
    assert (found["photo-3"].labels == np.where(LEGS, 1, 0)).all()
    assert "photo-5" not in found
    assert not list(out.rglob("photo-5*"))
    assert (found["photo-7"].labels == labels_of(1, 2)).all()


def test_a_task_that_is_put_into_another_split_leaves_no_file_in_the_old_one(
    tmp_path: Path, project: FakeProject
) -> None:
    out = tmp_path / "out"
    for split in ("train", "val"):
        project.tasks[3]["data"]["ihp_split"] = split
        assert run(project, out, "--layout", "lip").exit_code == 0
        found = {path.partition("/")[2] for path in files(out) if "photo-3." in path and not path.startswith(".export")}
        assert found == {f"{split}_images/photo-3.png", f"{split}_segmentations/photo-3.png"}


def test_what_cannot_be_exported_is_named_and_the_rest_goes_on(tmp_path: Path, project: FakeProject) -> None:
    def spoil(number: int, **changes: Any) -> None:
        project.tasks[number]["annotations"][0]["result"][0] |= changes

    spoil(2, value={"rle": [1, 2, 3], "brushlabels": ["Face"]})
    spoil(3, original_width=65)
    del project.files["/data/upload/1/photo-4.png"]
    project.files["/data/upload/1/photo-5.png"] = b"<html>log in</html>"
    project.tasks[6]["annotations"][0]["result"] = []
    project.tasks[7]["data"] = {}
    project.add(8, region("Face", np.zeros((48, 64), bool)))
    project.tasks[9]["data"]["ihp_split"] = "../up"
    done = run(project, tmp_path / "out", "--layout", "cihp")
    assert done.exit_code == 3
    reasons = {
        2: "the mask Face-1 cannot be read",
        3: "a mask is for a photo of 65x48, the photo has 64x48 pixels",
        4: "cannot be had",
        5: "a web page",
        6: "no mask of a label that the project has",
        7: "no image address",
        8: "its masks are empty",
        9: "its split is '../up'; cihp has train, val",
    }
    report = rows(tmp_path / "out")
    for number, reason in reasons.items():
        assert f"left out: task {number}: " in done.output
        assert reason in report[number]["left_out"]
    assert open_data_set(tmp_path / "out", "train", "cihp").names == [f"photo-{n}" for n in (1, 10, 11, 12)]
    assert not [path for n in reasons for path in files(tmp_path / "out") if f"photo-{n}." in path]


def test_a_full_disk_names_the_task_and_leaves_nothing_half(
    tmp_path: Path, project: FakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def full(path: Path, content: str | bytes) -> None:
        if path.match("labels/photo-6.png"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_whole(path, content)

    monkeypatch.setattr(export_folder, "write_whole", full)
    stopped = run(project, out)
    assert stopped.exit_code == 1
    assert "task 6 cannot be written" in stopped.output
    assert "No space left on device" in stopped.output
    assert "5 tasks are there, whole" in stopped.output
    assert not [path for path in files(out) if ".part" in path]
    monkeypatch.undo()
    done = run(project, out)
    assert "7 tasks written, 5 were there" in done.output
    assert len(samples(out)) == 12


def test_the_splits_are_those_of_the_training(tmp_path: Path, project: FakeProject) -> None:
    numbers = list(range(1, 41))
    for number in numbers[12:]:
        project.add(number, region("Face", FACE))
    run(project, tmp_path / "out")
    train, held_back = Split(PROJECT, tmp_path / "sides.json").divide(numbers)
    assert open_data_set(tmp_path / "out", "train").names == [f"photo-{n}" for n in train]
    assert open_data_set(tmp_path / "out", "val").names == [f"photo-{n}" for n in held_back]


def test_no_task_changes_side_and_what_training_has_decided_holds(tmp_path: Path, project: FakeProject) -> None:
    for number in range(13, 41):
        project.add(number, region("Face", FACE))
    by_hash = Split(PROJECT, tmp_path / "none.json").divide(list(range(1, 41)))
    moved = by_hash[0][0]
    trained = tmp_path / "data" / "trainings" / "splits" / f"{PROJECT}.json"
    trained.parent.mkdir(parents=True)
    trained.write_text(json.dumps({str(moved): True}))
    run(project, tmp_path / "out")
    first = set(open_data_set(tmp_path / "out", "val").names)
    assert first == {f"photo-{n}" for n in {*by_hash[1], moved}}
    trained.unlink()
    for number in range(50, 80):
        project.add(number, region("Face", FACE))
    run(project, tmp_path / "out")
    val = set(open_data_set(tmp_path / "out", "val").names)
    assert {name for name in val if int(name.rpartition("-")[2]) < 50} == first
    assert len(val) > len(first)


def test_an_imported_task_keeps_its_name_and_split(tmp_path: Path, project: FakeProject) -> None:
    for number in range(1, 11):
        project.tasks[number]["data"] |= {"ihp_name": f"77 ({number})", "ihp_split": "test"}
    done = run(project, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert open_data_set(tmp_path / "out", "test").names == [f"77 ({number})" for number in range(1, 11)]
    assert (open_data_set(tmp_path / "out", "test")[9].labels == labels_of(1, 2)).all()


def test_photos_of_one_name_are_told_apart(tmp_path: Path, project: FakeProject) -> None:
    names = {1: "a/me.png", 2: "b/me.png", 3: "c/ME.png", 4: "0123abcd-me.png", 5: "me-task-2.jpg", 6: "x.jpg.png"}
    for number, name in names.items():
        url = f"/data/upload/1/{name}"
        project.files[url] = project.files[f"/data/upload/1/photo-{number}.png"]
        project.tasks[number]["data"]["image"] = url
    run(project, tmp_path / "out")
    found = {int(record["task"]): record["photo"] for record in rows(tmp_path / "out").values()}
    assert [found[n] for n in range(1, 7)] == ["me", "me-task-2", "ME-task-3", "me-task-4", "me-task-2-task-5", "x_jpg"]
    assert len(samples(tmp_path / "out")) == 12
    run(project, tmp_path / "out")
    assert found == {int(record["task"]): record["photo"] for record in rows(tmp_path / "out").values()}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/data/upload/3/0a1b2c3d-street_1.jpg", "street_1"),
        ("/data/upload/3/street-1.jpg", "street-1"),
        ("/data/local-files/?d=photos/a%20b.JPG", "a b"),
        ("https://example.com/x/y.z.png?sig=1", "y.z"),
        ("/tasks/7/presign/?fileuri=czM6Ly9idWNrZXQvZGlyL3Bob3RvLmpwZw==", "photo"),
        ("data:image/png;base64,AAAA", "task-9"),
        ("https://example.com/", "task-9"),
        ("https://example.com/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "passwd"),
        ("/data/upload/3/..png", "task-9"),
    ],
)
def test_a_photo_is_called_as_its_file_was(url: str, name: str) -> None:
    assert photo_name(url, 9) == name


@pytest.mark.parametrize(
    "text", ["../../x", "a\nb", "a,b;c", "/etc", "x" * 999, "é" * 200, "\ud800", "", ".hidden", "a.jpg"]
)
def test_no_name_leads_out_of_the_folder_or_breaks_a_list(text: str) -> None:
    name = file_name(text)
    assert not set(name) & set("/\\\n,;\0")
    assert not name.startswith(".")
    assert not name.endswith(".jpg")
    assert len(name.encode()) <= 150


def test_a_photo_that_programs_show_differently_is_written_as_it_was_annotated(
    tmp_path: Path, project: FakeProject
) -> None:
    turned = np.random.default_rng(1).integers(0, 255, (64, 48, 3), np.uint8)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(turned).save(buffer, "PNG", exif=exif)
    project.files["/data/upload/1/photo-1.png"] = buffer.getvalue()
    webp = io.BytesIO()
    Image.fromarray(np.rot90(turned)).save(webp, "WEBP", lossless=True)
    project.files["/data/upload/1/photo-2.png"] = webp.getvalue()
    assert run(project, tmp_path / "out").exit_code == 0
    with Image.open(tmp_path / "out" / "images" / "photo-1.png") as image:
        assert image.getexif().get(0x0112, 1) == 1
        assert (np.array(image) == np.rot90(turned, -1)).all()
    with Image.open(tmp_path / "out" / "images" / "photo-2.png") as image:
        assert (np.array(image) == np.rot90(turned)).all()
    untouched = tmp_path / "out" / "images" / "photo-3.png"
    assert untouched.read_bytes() == project.files["/data/upload/1/photo-3.png"]


def test_people_are_told_apart_where_masks_say_whose_they_are(tmp_path: Path, project: FakeProject) -> None:
    project.add(
        1,
        region("Face", box(slice(0, 9), slice(0, 9)), id="a", meta={"ihp": {"person": 2}}),
        region("Face", box(slice(0, 9), slice(20, 29)), id="b", meta={"ihp": {"person": 2}, "text": "Person 1"}),
        region("Trousers", box(slice(20, 30), slice(0, 9)), id="c", meta={"ihp": {"clicks": [], "person": 2}}),
        region("Trousers", box(slice(20, 30), slice(20, 29)), id="d", meta={"text": ["dirty"]}),
    )
    done = run(project, tmp_path / "out", "--layout", "cihp")
    assert rows(tmp_path / "out")[1]["masks_without_person"] == "1"
    assert "masks in 12 tasks that do not say whose they are" in done.output
    (text,) = (tmp_path / "out").rglob("Instance_ids/photo-1.txt")
    face, legs = IDS["Face"], IDS["Trousers"]
    assert text.read_text().splitlines() == [f"1 {face} 2", f"2 {face} 1", f"3 {legs} 2", f"4 {legs} 0"]
    human = np.array(Image.open(next((tmp_path / "out").rglob("Human_ids/photo-1.png"))))
    assert (human[0, 0], human[0, 20], human[20, 0], human[20, 20]) == (2, 1, 2, 0)


def test_a_folder_with_other_files_is_not_touched(tmp_path: Path, project: FakeProject) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    refused = run(project, tmp_path / "mine")
    assert refused.exit_code == 1
    assert "files that no export has written" in refused.output
    run(project, tmp_path / "out")
    other = run(project, tmp_path / "out", "--layout", "lip")
    assert other.exit_code == 1
    assert "layout folder, not lip" in other.output


def test_a_layout_of_which_no_label_is_a_class_is_refused_before_anything_is_written(
    tmp_path: Path, project: FakeProject
) -> None:
    project.project["label_config"] = CONFIG.replace("Face", "Wheel").replace("Trousers", "Door")
    refused = run(project, tmp_path / "out", "--layout", "helen")
    assert refused.exit_code == 1
    assert "none of the labels Wheel, Door, Tattoo is a class of helen" in refused.output
    assert not (tmp_path / "out").exists()


def test_a_label_that_means_several_classes_is_ignored_and_one_changed_label_config_is_noticed(
    tmp_path: Path, project: FakeProject
) -> None:
    run(project, tmp_path / "out", "--layout", "lip")
    project.project["label_config"] = CONFIG.replace('value="Face"', 'value="Face" predicted_values="hair,face"')
    done = run(project, tmp_path / "out", "--layout", "lip")
    assert "note: Face means hair or face, which lip tells apart" in done.output
    assert "12 tasks written" in done.output
    labels = samples(tmp_path / "out", "lip")["photo-1"].labels
    assert (labels[FACE & ~LEGS] == 255).all()


def test_all_layouts_are_offered() -> None:
    told = CliRunner().invoke(main, ["export", "--help"]).output
    assert all(layout in told for layout in WRITERS)


def test_whenever_it_is_killed_another_run_ends_as_one_that_was_not(
    tmp_path: Path, project: FakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4, 13):
        del project.tasks[number]
    project.tasks[2]["data"] |= {"ihp_split": "val"}
    run(project, tmp_path / "whole", "--layout", "coco")
    expected = {path: (tmp_path / "whole" / path).read_bytes() for path in files(tmp_path / "whole")}
    writes = 0

    def counted(path: Path, content: str | bytes) -> None:
        nonlocal writes
        writes += 1
        if writes == killed_at:
            raise KeyboardInterrupt
        write_whole(path, content)

    monkeypatch.setattr(export_folder, "write_whole", counted)
    for killed_at in range(1, 100):
        out, writes = tmp_path / str(killed_at), 0
        if run(project, out, "--layout", "coco").exit_code == 0:
            break
        writes = 100
        assert run(project, out, "--layout", "coco").exit_code == 0
        assert {path: (out / path).read_bytes() for path in files(out)} == expected
    assert 12 < killed_at < 99
