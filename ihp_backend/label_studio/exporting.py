"""A project's annotations -> a data set: each task's newest annotation, as training reads it."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import cv2

from ihp_backend.data.coco import annotation_of, box_annotation_of
from ihp_backend.data.composition import Composition, Layer, compose
from ihp_backend.data.layout_writers import (
    WRITERS,
    LabelImage,
    LabelledPhoto,
    ListedPhoto,
    grey_png,
    indexed_png,
)
from ihp_backend.data.split import Split
from ihp_backend.files import is_file_name, write_whole
from ihp_backend.label_studio.annotated_tasks import (
    Fetch,
    TaskError,
    annotated_photos,
    mask_of,
    newest_annotation,
    painted_masks,
)
from ihp_backend.label_studio.export_classes import Classes, ExportError
from ihp_backend.label_studio.export_folder import ExportedTask, ExportFolder, file_name, photo_name
from ihp_backend.label_studio.image_address import address_of
from ihp_backend.label_studio.image_decoding import ImageError, decode_image, plain_ending
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.label_studio.mask_values import MASKS, OUTPUTS, RECTANGLE, label_of
from ihp_backend.label_studio.persons import person_of
from ihp_backend.label_studio.regions import short_name

NAME, SPLIT = "ihp_name", "ihp_split"
"""Where the data of an imported task says what the photo is called in its data set, and in which split it is."""
REPORT = "report.csv"
_COLUMNS = (
    "task",
    "photo_of_task",
    "photo",
    "split",
    "annotation",
    "masks",
    "overlapping_pixels",
    "overlaps",
    "gap_pixels",
    "pixels_without_class",
    "masks_without_person",
    "not_exported",
    "left_out",
)
FURTHER_PHOTO = 1_000_000_000
"""A task's first photo has the task's number; each further one has so much more. COCO's JSON has these numbers."""
_TOGETHER = 4
"""Photos that are fetched and decoded at once."""


@dataclass
class Summary:
    """What an export did.

    Attributes:
        written: Tasks written, for they are new or have changed.
        kept: Tasks that were there already.
        removed: Tasks whose files were removed.
        left_out: For each task that cannot be exported a sentence that names it.
        rows: A row of the report for each task.
        splits: Photos in each split.
    """

    written: int = 0
    kept: int = 0
    removed: int = 0
    left_out: list[str] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    splits: dict[str, int] = field(default_factory=dict)

    def total(self, column: str) -> tuple[int, int]:
        """Returns the sum of a column, and in how many tasks it is not 0."""
        values = [int(row.get(column) or 0) for row in self.rows]
        return sum(values), sum(value > 0 for value in values)


@dataclass(frozen=True)
class _Job:
    number: int
    task: Mapping[str, Any]
    view: LabelConfig
    annotation: Mapping[str, Any]
    url: str
    split: str
    state: str
    name: str


class Exporter:
    """Writes the annotated tasks of a project into a folder.

    Args:
        folder: Where to.
        layout: A name in ``WRITERS``.
        config: The project's label config.
        classes: Which class each label is.
        fetch: Returns the file that a task's data names; ImageError if it cannot be had.
        split: Divides the tasks that do not say in which split they are.
        max_pixels: Largest photo, in pixels.
        grey: Label images without a palette.
    """

    def __init__(
        self,
        folder: ExportFolder,
        layout: str,
        config: LabelConfig,
        classes: Classes,
        fetch: Fetch,
        split: Split,
        *,
        max_pixels: int,
        grey: bool = False,
    ) -> None:
        self._folder = folder
        self._layout, self._writer = layout, WRITERS[layout]
        self._config = config
        self._classes = classes
        self._fetch = fetch
        self._split = split
        self._max_pixels = max_pixels
        self._label_image: LabelImage = grey_png if grey else indexed_png(classes.schema)
        self._types = OUTPUTS if layout == "coco" else MASKS
        self._rules = (layout, grey, classes.schema.names, tuple(classes.of_label.items()))
        self._held_back: set[int] = set()

    def divide(self, tasks: Iterable[Mapping[str, Any]]) -> int:
        """Decides which tasks are in which split; returns how many there are.

        Args:
            tasks: All annotated tasks, with their data.

        Raises:
            OSError: If that cannot be written down.
        """
        known = {int(task["id"]): (task.get("data") or {}).get(SPLIT) for task in tasks}
        self._held_back = set(self._split.divide([number for number, split in known.items() if not split])[1])
        return len(known)

    def run(self, tasks: Iterable[Mapping[str, Any]]) -> Summary:
        """Writes the tasks that are new or have changed, the lists of photos and the report.

        Args:
            tasks: All annotated tasks, with their annotations.

        Raises:
            LabelStudioError: If the tasks, or a photo, cannot be fetched because Label Studio is down.
            ExportError: If a file cannot be written, as on a full disk. What is there already is whole; another run
                goes on with the task that the message names.
        """
        summary, seen = Summary(), set()
        source = iter(tasks)
        with ThreadPoolExecutor(_TOGETHER) as pool:
            while batch := list(islice(source, 2 * _TOGETHER)):
                photos = [photo for task in batch for photo in self._photos(task, summary)]
                seen |= {number for number, _, _ in photos}
                jobs = [job for photo in photos if (job := self._job(*photo, summary)) is not None]
                for job, made in zip(jobs, pool.map(self._made, jobs), strict=True):
                    self._put(job, made, summary)
        for number in self._folder.records.keys() - seen:
            self._folder.remove(number)
            summary.removed += 1
        try:
            self._finish(summary)
        except OSError as error:
            raise ExportError(f"the lists of photos cannot be written: {error}") from error
        return summary

    def _photos(self, task: Mapping[str, Any], summary: Summary) -> list[tuple[int, Mapping[str, Any], LabelConfig]]:
        """The annotated photos of a task, each with a number; none, and a note, if it has none."""
        number = int(task["id"])
        try:
            if newest_annotation(task) is None:
                raise TaskError("it has no annotation")
            found = annotated_photos(task, self._config, self._types)
        except (TaskError, ImageError) as error:
            self._leave_out(number, error, summary)
            return []
        return [(number + place * FURTHER_PHOTO, task, view) for place, view in found]

    def _job(self, number: int, task: Mapping[str, Any], view: LabelConfig, summary: Summary) -> _Job | None:
        """What is to be done for a photo; ``None`` if it is there, or cannot be exported."""
        try:
            annotation = newest_annotation(task)
            assert annotation is not None
            data = task.get("data") or {}
            url = address_of(task, view.value)
            split = self._split_of(int(task["id"]), data)
            state = short_name((annotation.get("id"), annotation.get("updated_at"), url, split, self._rules))
            if self._folder.is_whole(number, state):
                summary.kept += 1
                summary.rows.append(self._folder.records[number].row)
                return None
            is_named = data.get(NAME) and number < FURTHER_PHOTO
            wanted = file_name(str(data[NAME])) if is_named else photo_name(url, number)
            return _Job(number, task, view, annotation, url, split, state, self._folder.name_for(number, wanted))
        except (TaskError, ImageError) as error:
            self._leave_out(number, error, summary)
            return None

    def _split_of(self, number: int, data: Mapping[str, Any]) -> str:
        split = str(data.get(SPLIT) or ("val" if number in self._held_back else "train"))
        if self._writer.splits and split not in self._writer.splits:
            raise TaskError(f"its split is {split!r:.50}; {self._layout} has {', '.join(self._writer.splits)}")
        if not is_file_name(split):
            raise TaskError(f"its split is {split!r:.50}, which is no file name")
        return split

    def _made(self, job: _Job) -> tuple[ExportedTask, dict[str, bytes], list[dict[str, Any]]] | Exception:
        """What is to be written of a task, or why it cannot be."""
        try:
            return self._compose(job)
        except (TaskError, ImageError, cv2.error, MemoryError) as error:
            return error

    def _compose(self, job: _Job) -> tuple[ExportedTask, dict[str, bytes], list[dict[str, Any]]]:
        painted = painted_masks(job.annotation, job.view)
        boxes = self._boxes(job)
        file = self._fetch(job.url)
        image = decode_image(file, max_pixels=self._max_pixels)
        height, width = image.shape[:2]
        masks: list[dict[str, Any]] = []

        def layers() -> Iterator[Layer]:
            for regions in painted:
                label, person = label_of(regions[0]), person_of(regions[0])
                mask, class_id = mask_of(regions, height, width), self._classes.of_label[label]
                if self._layout == "coco" and class_id and mask.any():
                    masks.append(annotation_of(mask, class_id, **({"person": person} if person else {})))
                yield Layer(mask, label, class_id, person)

        found = compose(layers(), height, width)
        for regions in boxes:
            mask, class_id = mask_of(regions, height, width), self._classes.of_label[label_of(regions[0])]
            if class_id and mask.any():
                masks.append(box_annotation_of(mask, class_id))
        if not found.kinds and not masks:
            raise TaskError(
                f"none of its masks has a class of {self._classes.schema.name}"
                if found.without_class
                else "its masks are empty"
            )
        ending = plain_ending(file)
        if ending is None:
            ending, file = ".png", cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
        files = self._writer.files(LabelledPhoto(job.name, job.split, file, ending, found), self._label_image)
        row = self._row(job, found, len(painted))
        record = ExportedTask(job.number, job.state, job.name, job.split, ending, width, height, tuple(files), row)
        return record, files, masks

    def _boxes(self, job: _Job) -> list[list[Mapping[str, Any]]]:
        """The rectangles of an annotation, which only COCO can hold."""
        return painted_masks(job.annotation, job.view, (RECTANGLE,)) if RECTANGLE in self._types else []

    def _row(self, job: _Job, found: Composition, masks: int) -> dict[str, str]:
        counts = {
            "overlapping_pixels": found.overlapping,
            "gap_pixels": found.gaps,
            "pixels_without_class": found.without_class,
            "masks_without_person": found.without_person if self._layout in ("cihp", "coco") else 0,
        }
        return {
            **_numbers(job.number),
            "photo": job.name,
            "split": job.split,
            "annotation": str(job.annotation.get("id")),
            "masks": str(masks),
            "overlaps": "; ".join(f"{pair}: {pixels}" for pair, pixels in found.overlaps.items()),
            "not_exported": "; ".join(f"{count} {kind}" for kind, count in self._others(job).items()),
            **{name: str(count) for name, count in counts.items()},
        }

    def _others(self, job: _Job) -> Counter[str]:
        """Regions that are no masks of the task's photos: of other controls, or of labels that are gone."""
        results = job.annotation.get("result")
        views = self._config.of_task(job.task).photos()
        masks = [regions for view in views for regions in painted_masks(job.annotation, view, self._types)]
        ours = {id(region) for regions in masks for region in regions}
        kinds = [
            str(region.get("type"))
            for region in (results if isinstance(results, list) else [])
            if isinstance(region, Mapping) and id(region) not in ours
        ]
        return Counter(kind for kind in kinds if kind.endswith("labels") and kind != "keypointlabels")

    def _put(
        self, job: _Job, made: tuple[ExportedTask, dict[str, bytes], list[dict[str, Any]]] | Exception, summary: Summary
    ) -> None:
        try:
            if isinstance(made, Exception):
                self._leave_out(job.number, made, summary)
            else:
                self._folder.put(*made)
                summary.written += 1
                summary.rows.append(made[0].row)
        except OSError as error:
            raise ExportError(
                f"{_named(job.number)} cannot be written: {error}. {summary.written + summary.kept} tasks are there, "
                "whole; the same command goes on with this one"
            ) from error

    def _leave_out(self, number: int, error: Exception, summary: Summary) -> None:
        self._folder.remove(number)
        summary.left_out.append(f"{_named(number)}: {error}")
        summary.rows.append({**_numbers(number), "left_out": str(error)})

    def _finish(self, summary: Summary) -> None:
        photos: defaultdict[str, list[ListedPhoto]] = defaultdict(list)
        for number, record in sorted(self._folder.records.items()):
            photos[record.split].append(_listed(number, record, self._folder))
        self._folder.finish(self._writer.lists(photos, self._classes.schema))
        summary.splits = {split: len(of_split) for split, of_split in sorted(photos.items())}
        summary.rows.sort(key=lambda row: (int(row["task"]), int(row.get("photo_of_task") or 1)))
        write_whole(self._folder.root / REPORT, _as_csv(summary.rows))


def _listed(number: int, record: ExportedTask, folder: ExportFolder) -> ListedPhoto:
    return ListedPhoto(
        number,
        record.name,
        record.split,
        record.ending,
        record.width,
        record.height,
        lambda: folder.annotations(number),
    )


def _numbers(number: int) -> dict[str, str]:
    place, task = divmod(number, FURTHER_PHOTO)
    return {"task": str(task), "photo_of_task": str(place + 1)}


def _named(number: int) -> str:
    place, task = divmod(number, FURTHER_PHOTO)
    return f"task {task}" + (f", photo {place + 1}" if place else "")


def _as_csv(rows: Sequence[Mapping[str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
