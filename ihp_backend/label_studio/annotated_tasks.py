"""What annotators have submitted, as photos to learn from: the masks of each task's newest annotation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.data.sample import Sample
from ihp_backend.label_studio.image_address import address_of
from ihp_backend.label_studio.image_decoding import ImageError, decode_image
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.label_studio.mask_values import MASKS, RECTANGLE, MaskError, decode, label_of, size_of
from ihp_backend.label_studio.pieces import together

logger = logging.getLogger(__name__)

_MOST_LABELS = 254
Fetch = Callable[[str], bytes]


class TaskError(ValueError):
    """A task cannot be learnt from; the message says why."""


@dataclass(frozen=True)
class Photo:
    """An annotated photo.

    Attributes:
        task: Label Studio's number of its task.
        url: The photo's address, as the task's data has it.
        labels_png: (H, W) uint8 as PNG: 0 where no mask is, k + 1 for the k-th label of all that the config has.
        place: Which photo of the task it is, 0 for the first.
    """

    task: int
    url: str
    labels_png: bytes
    place: int = 0

    @property
    def name(self) -> str:
        """Names it in messages."""
        return f"task-{self.task}" + (f"-photo-{self.place + 1}" if self.place else "")


class Photos:
    """Annotated photos, see ``data.annotated_photos.AnnotatedPhotos``.

    The masks are in memory; the photos are read anew.

    Args:
        photos: The tasks.
        labels: The project's labels, in the config's order, and the schema's parts that each stands for.
        fetch: Returns the file that a task's data names.
        max_pixels: Largest photo, in pixels.
    """

    def __init__(
        self, photos: Sequence[Photo], labels: Mapping[str, tuple[str, ...]], fetch: Fetch, max_pixels: int
    ) -> None:
        self.labels = dict(labels)
        self.names = [photo.name for photo in photos]
        self._photos = list(photos)
        self._fetch = fetch
        self._max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> Sample:
        """Reads a photo; raises ImageError if it is gone since, or has another size."""
        photo = self._photos[index]
        image = decode_image(self._fetch(photo.url), max_pixels=self._max_pixels)
        labels = np.asarray(cv2.imdecode(np.frombuffer(photo.labels_png, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)
        if image.shape[:2] != labels.shape:
            raise ImageError(f"{photo.name}: the photo has changed from {labels.shape} to {image.shape[:2]}")
        return Sample(self.names[index], image, labels)


@dataclass(frozen=True)
class Reading:
    """What was found: the photos to learn from, and for each other task a sentence that says why not."""

    photos: list[Photo]
    left_out: list[str]


def read_tasks(tasks: Iterable[Mapping[str, Any]], config: LabelConfig, fetch: Fetch, max_pixels: int) -> Reading:
    """Reads annotated tasks, and checks each one's photo and masks.

    Args:
        tasks: Tasks with their annotations, as the API gives them.
        config: The project's label config. Masks of labels that it has lost are left out.
        fetch: Returns the file that a task's data names.
        max_pixels: Largest photo, in pixels.

    Raises:
        LabelStudioError: If the tasks cannot be fetched; or by ``fetch``, if Label Studio is down: what is missing then
            is not gone.
        ValueError: If the config has more labels than an image of labels can hold.
    """
    labels = config.with_all_labels().labels
    if len(labels) > _MOST_LABELS:
        raise ValueError(f"the label config has {len(labels)} labels; {_MOST_LABELS} can be learnt at most")
    photos: list[Photo] = []
    left_out: list[str] = []

    def leave_out(name: str, error: Exception) -> None:
        left_out.append(f"{name}: {error}")
        logger.warning("%s is left out: %s", name, error)

    for task in tasks:
        name = f"task {task.get('id')}"
        try:
            views = annotated_photos(task, config)
        except (TaskError, ImageError) as error:
            leave_out(name, error)
            continue
        for place, view in views:
            try:
                photos.append(_read(task, view, place, labels, fetch, max_pixels))
            except (TaskError, ImageError) as error:
                leave_out(name + (f", photo {place + 1}" if len(config.of_task(task).photos()) > 1 else ""), error)
    return Reading(photos, left_out)


def annotated_photos(
    task: Mapping[str, Any], config: LabelConfig, types: Collection[str] = MASKS
) -> list[tuple[int, LabelConfig]]:
    """Returns those photos of a task that its newest annotation has masks on: their places, and the config of each.

    Args:
        task: As the API gives it, with its annotations.
        config: The project's label config.
        types: Of regions that count, see ``painted_masks``.

    Raises:
        TaskError: If there is none; the message says why.
        ImageError: If the task's data has no photos where the config expects them.
    """
    annotation = newest_annotation(task)
    views = config.of_task(task).photos()
    found = [(place, view) for place, view in enumerate(views) if painted_masks(annotation, view, types)]
    if not found:
        raise TaskError(why_no_mask(annotation, views))
    return found


def newest_annotation(task: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the annotation of a task that was changed last; skipped ones do not count."""
    annotations = [a for a in task.get("annotations") or [] if isinstance(a, Mapping) and not a.get("was_cancelled")]
    return max(annotations, key=lambda a: (str(a.get("updated_at") or ""), int(a.get("id") or 0)), default=None)


def painted_masks(
    annotation: Mapping[str, Any] | None, config: LabelConfig, types: Collection[str] = MASKS
) -> list[list[Mapping[str, Any]]]:
    """Returns the masks of an annotation whose labels the config has, in their order: the later lies on top.

    Args:
        annotation: As the API or an event gives it.
        config: The project's label config.
        types: Of their regions, in ``mask_values.OUTPUTS``. A rectangle is no mask, unless it is asked for.

    Returns:
        For each mask the regions that make it: one, or several polygons.
    """
    results = annotation.get("result") if annotation else None
    return together(
        region
        for region in (results if isinstance(results, list) else [])
        if isinstance(region, Mapping)
        and region.get("type") in types
        and config.is_painted(region)
        and label_of(region) in config.labels
    )


def mask_of(regions: Sequence[Mapping[str, Any]], height: int, width: int) -> NDArray[np.bool_]:
    """Decodes a mask.

    Args:
        regions: Those that make it, see ``painted_masks``.
        height: Height of the photo in pixels.
        width: Its width.

    Returns:
        (H, W) bool.

    Raises:
        TaskError: If it is for a photo of another size, or cannot be read.
    """
    mask = np.zeros((height, width), np.bool_)
    for region in regions:
        size = size_of(region, height, width)
        if size != (height, width):
            raise TaskError(f"a mask is for a photo of {size[1]}x{size[0]}, the photo has {width}x{height} pixels")
        try:
            mask |= decode(region, height, width)
        except MaskError as error:
            raise TaskError(f"the mask {region.get('id')} cannot be read: {error}") from error
    return mask


def why_no_mask(annotation: Mapping[str, Any] | None, views: Sequence[LabelConfig]) -> str:
    """Says why an annotation has no ``painted_masks`` on any photo of its task."""
    if any(painted_masks(annotation, view, (RECTANGLE,)) for view in views):
        return "its newest annotation has rectangles only, which do not tell the pixels of a part"
    return "its newest annotation has no mask of a label that the project has"


def painted(
    annotation: Mapping[str, Any] | None, config: LabelConfig, height: int, width: int, labels: Sequence[str] = ()
) -> NDArray[np.uint8]:
    """Paints the masks of an annotation over each other, the later over the earlier.

    Args:
        annotation: As the API or an event gives it.
        config: The project's label config. Masks of labels that it lacks are left out.
        height: Height of the photo in pixels.
        width: Its width.
        labels: By whose place a label is painted; none: the config's.

    Returns:
        (H, W) uint8: 0 where no mask is, k + 1 for the k-th label.

    Raises:
        TaskError: If a mask cannot be read, or is for a photo of another size.
    """
    found, labels = np.zeros((height, width), np.uint8), labels or config.labels
    for regions in painted_masks(annotation, config):
        found[mask_of(regions, height, width)] = labels.index(label_of(regions[0])) + 1
    return found


def _read(
    task: Mapping[str, Any], config: LabelConfig, place: int, labels: Sequence[str], fetch: Fetch, max_pixels: int
) -> Photo:
    annotation = newest_annotation(task)
    url = address_of(task, config.value)
    image = decode_image(fetch(url), max_pixels=max_pixels)
    ids = painted(annotation, config, image.shape[0], image.shape[1], labels)
    if not ids.any():
        raise TaskError("its masks are empty")
    return Photo(int(task["id"]), url, cv2.imencode(".png", ids)[1].tobytes(), place)
