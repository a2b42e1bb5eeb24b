"""`ihp export` from a Label Studio of one project, read again by pycocotools, Pillow and our loaders."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from exported import FACE, LEGS, files, labels_of, rows, run, samples, twelve_photos
from fake_project import CONFIG, FakeProject, box, region
from PIL import Image
from pycocotools.coco import COCO

from ihp_backend.cli import main
from ihp_backend.data.catalogue import open_data_set
from ihp_backend.data.layout_writers import WRITERS
from ihp_backend.demo.project import label_config_of
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import LIP, SCHEMAS

IDS = {"Face": LIP.names.index("face"), "Trousers": LIP.names.index("pants")}


@pytest.fixture
def project() -> Iterator[FakeProject]:
    with twelve_photos() as fake:
        yield fake


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
