from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fake_label_studio import LEGACY
from fake_project import CONFIG, FakeProject, box, region
from fakes import png
from label_studio_sdk.converter.brush import encode_rle

from ihp_backend.label_studio.annotated_tasks import Photos, Reading, newest_annotation, read_tasks
from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.label_studio.client import Client
from ihp_backend.label_studio.image_decoding import ImageError
from ihp_backend.label_studio.label_config import LabelConfig

PARSED = LabelConfig.parse(CONFIG)
LABELS = {"Face": ("face",), "Trousers": ("pants",), "Tattoo": ()}
FACE, LEGS, TATTOO = 1, 2, 3
PHOTO = png(64, 48)


@pytest.fixture
def project() -> Iterator[FakeProject]:
    with FakeProject() as fake:
        yield fake


def fetch(url: str) -> bytes:
    if "gone" in url:
        raise ImageError("the image cannot be had: it is not there")
    if "down" in url:
        raise LabelStudioError("Label Studio cannot be reached")
    return PHOTO


def task(*annotations: dict[str, Any], number: int = 1, url: str = "photo") -> dict[str, Any]:
    return {"id": number, "data": {"image": url}, "annotations": list(annotations)}


def annotation(*regions: Any, at: str = "2026-11-23T01", number: int = 1, **changes: Any) -> dict[str, Any]:
    return {"id": number, "result": list(regions), "was_cancelled": False, "updated_at": at, **changes}


def read(*tasks: dict[str, Any]) -> Reading:
    return read_tasks(tasks, PARSED, fetch, 10**6)


def labels_of(*tasks: dict[str, Any]) -> Any:
    found = read(*tasks)
    assert not found.left_out
    return Photos(found.photos, LABELS, fetch, 10**6)[0].labels


def test_masks_become_labels_and_the_later_wins() -> None:
    face, legs = box(slice(0, 20), slice(0, 30)), box(slice(10, 40), slice(20, 64))
    labels = labels_of(task(annotation(region("Face", face), region("Trousers", legs))))
    expected = np.zeros((48, 64), np.uint8)
    expected[:20, :30] = FACE
    expected[10:40, 20:64] = LEGS
    np.testing.assert_array_equal(labels, expected)
    labels = labels_of(task(annotation(region("Trousers", legs), region("Face", face))))
    assert labels[15, 25] == FACE


def test_what_is_saved_twice_is_read_once_and_clicks_are_no_masks() -> None:
    face = region("Face", box(slice(0, 20), slice(0, 30)))
    twin = {**face, "type": "keypointlabels", "value": {**face["value"], "keypointlabels": ["Tattoo"]}}
    click = {"type": "keypointlabels", "value": {"x": 5, "y": 5, "keypointlabels": ["Tattoo"]}}
    assert set(np.unique(labels_of(task(annotation(face, twin, click))))) == {0, FACE}


def test_the_edge_of_a_stroke_belongs_to_it_from_half_covered_on() -> None:
    alpha = np.zeros((48, 64, 4), np.uint8)
    alpha[0, :4] = np.array([0, 127, 128, 255])[:, None]
    drawn = region("Face", box(slice(0, 1), slice(0, 1)))
    drawn["value"]["rle"] = encode_rle(alpha.ravel())
    assert labels_of(task(annotation(drawn)))[0, :5].tolist() == [0, 0, FACE, FACE, 0]


def test_the_newest_annotation_counts_and_a_skip_does_not() -> None:
    def mask(row: int) -> dict[str, Any]:
        return region("Face", box(slice(row, row + 1), slice(0, 64)))

    old = annotation(mask(1), at="2026-11-23T01", number=5)
    changed = annotation(mask(2), at="2026-11-23T09", number=3)
    skipped = annotation(mask(3), at="2026-11-23T10", number=9, was_cancelled=True)
    for order in ([old, changed, skipped], [skipped, changed, old]):
        assert np.flatnonzero(labels_of(task(*order))[:, 0]).tolist() == [2]
    assert newest_annotation(task(skipped)) is None
    assert newest_annotation({"id": 1}) is None


def test_labels_that_the_project_has_lost_are_left_out() -> None:
    both = annotation(region("Face", box(slice(0, 9), slice(0, 9))), region("Hat", box(slice(0, 40), slice(0, 64))))
    assert labels_of(task(both)).max() == FACE


def test_a_mask_that_does_not_tell_its_photos_size_is_of_this_one() -> None:
    face = region("Face", box(slice(0, 20), slice(0, 30)))
    face["original_width"] = None
    del face["original_height"]
    assert (labels_of(task(annotation(face))) == FACE).sum() == 20 * 30


@pytest.mark.parametrize("opacity", [1, 30, 100, 127, 128, 254])
def test_a_faint_mask_is_learnt(opacity: int) -> None:
    """As the SDK's helpers write imported masks: 100."""
    faint = region("Face", box(slice(0, 20), slice(0, 30)))
    alpha = np.where(box(slice(0, 20), slice(0, 30)), opacity, 0).astype(np.uint8)
    faint["value"]["rle"] = encode_rle(np.repeat(alpha, 4))
    assert (labels_of(task(annotation(faint))) == FACE).sum() == 20 * 30


def test_masks_of_another_image_of_the_task_are_not_learnt_as_this_ones() -> None:
    face = region("Face", box(slice(0, 20), slice(0, 30)))
    legs = region("Trousers", box(slice(20, 40), slice(0, 30)))
    of_another_size = region("Trousers", box(slice(0, 9), slice(0, 9), 90, 90))
    for other in (
        {**legs, "to_name": "back view"},
        {**of_another_size, "to_name": "back view"},
        {**of_another_size, "item_index": 1},
        {**legs, "from_name": "another brush"},
    ):
        assert set(np.unique(labels_of(task(annotation(face, other))))) == {0, FACE}
    found = read(task(annotation({**face, "to_name": "back view"})))
    assert "no mask" in found.left_out[0]


def test_the_photo_is_where_the_expression_says_and_a_storage_is_asked_by_task() -> None:
    config = LabelConfig.parse(CONFIG.replace("$image", "$views[1].url"))
    face = annotation(region("Face", box(slice(0, 20), slice(0, 30))))
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return PHOTO

    tasks = [
        {**task(face, number=n), "data": {"views": [{"url": "x"}, {"url": url}]}}
        for n, url in enumerate(("/data/upload/1/a.png", "s3://bucket/a.png"))
    ]
    assert len(read_tasks(tasks, config, fetch, 10**6).photos) == 2
    assert asked == ["/data/upload/1/a.png", "/tasks/1/presign/?fileuri=czM6Ly9idWNrZXQvYS5wbmc="]


def test_tasks_that_cannot_be_learnt_from_are_left_out_with_a_reason() -> None:
    face = region("Face", box(slice(0, 20), slice(0, 30)))
    found = read(
        task(annotation(face), number=1),
        task(annotation(face), number=2, url="gone"),
        task(annotation(region("Face", box(slice(0, 9), slice(0, 9), 40, 40))), number=3),
        task(annotation(face, was_cancelled=True), number=4),
        task(annotation(), number=5),
        task(annotation(region("Hat", box(slice(0, 9), slice(0, 9)))), number=6),
        task(annotation(region("Face", box(slice(0, 0), slice(0, 0)))), number=7),
        task(annotation({**face, "value": {"brushlabels": ["Face"], "rle": [1, 2, 3]}}), number=8),
        {**task(annotation(face), number=9), "data": {"text": "hello"}},
        task(annotation("nonsense", None), number=10),
    )
    assert [photo.task for photo in found.photos] == [1]
    for number, why in {
        2: "it is not there",
        3: "a mask is for a photo of 40x40, the photo has 64x48",
        4: "no mask",
        5: "no mask",
        6: "no mask of a label that the project has",
        7: "its masks are empty",
        8: "cannot be read",
        9: "no image address under 'image'",
        10: "no mask",
    }.items():
        assert any(line.startswith(f"task {number}: ") and why in line for line in found.left_out), (number, why)
    assert len(found.left_out) == 9


def test_a_label_studio_that_is_down_is_not_a_photo_that_is_gone() -> None:
    face = region("Face", box(slice(0, 20), slice(0, 30)))
    with pytest.raises(LabelStudioError, match="cannot be reached"):
        read(task(annotation(face)), task(annotation(face), url="down"))


def test_photos_are_what_the_learner_wants() -> None:
    face = region("Face", box(slice(0, 20), slice(0, 30)))
    found = read(task(annotation(face), number=7), task(annotation(face), number=9))
    photos = Photos(found.photos, LABELS, fetch, 10**6)
    assert (len(photos), photos.names, dict(photos.labels)) == (2, ["task-7", "task-9"], LABELS)
    sample = photos[1]
    assert (sample.name, sample.image.shape, sample.labels.shape) == ("task-9", (48, 64, 3), (48, 64))
    assert sample.image.dtype == sample.labels.dtype == np.uint8
    changed = Photos(found.photos, LABELS, lambda _: png(32, 48), 10**6)
    with pytest.raises(ImageError, match="has changed"):
        changed[0]


def test_all_pages_are_read_each_task_once_while_annotators_work(project: FakeProject) -> None:
    face = region("Face", box(slice(0, 20), slice(0, 30)))
    for number in range(1, 8):
        project.add(number, face)
    project.add(20)
    seen: list[int] = []
    for found in Client(project.url, LEGACY).select_tasks(1, annotated=True, page_size=3):
        seen.append(found["id"])
        project.tasks.pop(1, None)  # deleted meanwhile: with numbered pages, one would be missed
        project.add(20, face)
    assert seen == [*range(1, 8), 20]
    assert [t["id"] for t in Client(project.url, LEGACY).select_tasks(1, annotated=False)] == []
    assert [t["id"] for t in Client(project.url, LEGACY).select_tasks(1, annotated=True, after=5)] == [6, 7, 20]
