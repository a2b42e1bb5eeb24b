"""Writes data sets in the layouts that ``catalogue`` reads, and COCO's: which file holds what, as bytes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.data import cihp, helen
from ihp_backend.data.coco import categories
from ihp_backend.data.composition import Composition
from ihp_backend.data.folder import describe_classes
from ihp_backend.parts import CIHP, HELEN, IGNORE, LIP, PASCAL_PERSON_PART, Schema

_IGNORED = (255, 255, 255)
LabelImage = Callable[[NDArray[np.uint8]], bytes]
"""Writes classes (H, W) as a label image."""


@dataclass(frozen=True)
class LabelledPhoto:
    """One photo to be written.

    Attributes:
        name: Its name, without folder and ending.
        split: Such as ``train``.
        file: The photo's file.
        ending: Of that file, such as ``.jpg``.
        composition: Its masks.
    """

    name: str
    split: str
    file: bytes
    ending: str
    composition: Composition


@dataclass(frozen=True)
class ListedPhoto:
    """One photo of a whole data set.

    Attributes:
        number: Names it in COCO's JSON.
        name: Its name, without folder and ending.
        split: Such as ``train``.
        ending: Of its file.
        width: In pixels.
        height: In pixels.
        annotations: Its masks as COCO has them, see ``coco.annotation_of``; other layouts do not ask for them.
    """

    number: int
    name: str
    split: str
    ending: str
    width: int
    height: int
    annotations: Callable[[], list[dict[str, Any]]]


@dataclass(frozen=True)
class LayoutWriter:
    """How a layout is written.

    Attributes:
        schema: Its classes; ``None`` if those are the project's own.
        splits: Its splits; none: any.
        files: For a photo and the classes the files, by their paths in the data set.
        lists: For all photos and the classes the files that list them.
        has_ignored: Whether pixels can be ignored.
    """

    schema: Schema | None
    splits: tuple[str, ...]
    files: Callable[[LabelledPhoto, LabelImage], dict[str, bytes]]
    lists: Callable[[Mapping[str, Sequence[ListedPhoto]], Schema], dict[str, bytes]]
    has_ignored: bool = True


def indexed_png(schema: Schema) -> LabelImage:
    """Returns what writes label images as PNG with the classes as indices, and their colours as the palette."""
    colours = [*schema.colours, *[(0, 0, 0)] * (IGNORE - len(schema)), _IGNORED]

    def write(labels: NDArray[np.uint8]) -> bytes:
        image = Image.fromarray(labels)
        image.putpalette([channel for colour in colours for channel in colour])
        return _png(image)

    return write


def grey_png(labels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """Writes numbers (H, W) as a PNG of one channel, with 8 bits a pixel, or 16."""
    return _png(Image.fromarray(labels))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _lip(photo: LabelledPhoto, label_image: LabelImage) -> dict[str, bytes]:
    segmentations = f"TrainVal_parsing_annotations/{photo.split}_segmentations"
    return {
        f"TrainVal_images/{photo.split}_images/{photo.name}{photo.ending}": photo.file,
        f"{segmentations}/{photo.name}.png": label_image(photo.composition.labels),
    }


def _cihp(photo: LabelledPhoto, label_image: LabelImage) -> dict[str, bytes]:
    folder, found = _CIHP_FOLDERS[photo.split], photo.composition
    # As its evaluation reads it: instance, class and person, a line for each instance.
    lines = [f"{i} {class_id} {person}\n" for i, (class_id, person) in enumerate(found.kinds, 1) if class_id]
    instances = np.where(found.labels > 0, found.instances, 0)
    instances = instances.astype(np.uint8 if len(found.kinds) < 256 else np.uint16)
    return {
        f"{folder}/Images/{photo.name}{photo.ending}": photo.file,
        f"{folder}/Category_ids/{photo.name}.png": label_image(found.labels),
        f"{folder}/Human_ids/{photo.name}.png": grey_png(found.people),
        f"{folder}/Instance_ids/{photo.name}.png": grey_png(instances),
        f"{folder}/Instance_ids/{photo.name}.txt": "".join(lines).encode(),
    }


def _pascal_person_part(photo: LabelledPhoto, label_image: LabelImage) -> dict[str, bytes]:
    return {
        f"JPEGImages/{photo.name}{photo.ending}": photo.file,
        f"pascal_person_part_gt/{photo.name}.png": label_image(photo.composition.labels),
    }


def _helen(photo: LabelledPhoto, label_image: LabelImage) -> dict[str, bytes]:
    labels = np.where(photo.composition.labels == IGNORE, 0, photo.composition.labels)
    masks = {
        f"labels/{photo.name}/{photo.name}_lbl{i:02d}.png": grey_png(np.where(labels == i, 255, 0).astype(np.uint8))
        for i in range(len(HELEN))
    }
    return {f"images/{photo.name}{photo.ending}": photo.file, **masks}


def _folder(photo: LabelledPhoto, label_image: LabelImage) -> dict[str, bytes]:
    return {
        f"images/{photo.name}{photo.ending}": photo.file,
        f"labels/{photo.name}.png": label_image(photo.composition.labels),
    }


def _coco(photo: LabelledPhoto, label_image: LabelImage) -> dict[str, bytes]:
    return {f"{photo.split}/{photo.name}{photo.ending}": photo.file}


def _text_lists(path: str) -> Callable[[Mapping[str, Sequence[ListedPhoto]], Schema], dict[str, bytes]]:
    """Lists of names, one in a line; ``{folder}`` in the path is CIHP's for the split."""

    def write(photos: Mapping[str, Sequence[ListedPhoto]], schema: Schema) -> dict[str, bytes]:
        return {
            path.format(split=split, folder=_CIHP_FOLDERS.get(split, "")): _lines(photo.name for photo in of_split)
            for split, of_split in photos.items()
        }

    return write


def _helen_lists(photos: Mapping[str, Sequence[ListedPhoto]], schema: Schema) -> dict[str, bytes]:
    return {
        helen.LISTS[split]: _lines(f"{i} , {photo.name}" for i, photo in enumerate(of_split, 1))
        for split, of_split in photos.items()
    }


def _folder_lists(photos: Mapping[str, Sequence[ListedPhoto]], schema: Schema) -> dict[str, bytes]:
    classes = json.dumps(describe_classes(schema), indent=1, ensure_ascii=False) + "\n"
    return {"classes.json": classes.encode(), **_text_lists("splits/{split}.txt")(photos, schema)}


def _coco_lists(photos: Mapping[str, Sequence[ListedPhoto]], schema: Schema) -> dict[str, bytes]:
    found = {}
    for split, of_split in photos.items():
        annotations = [{"image_id": photo.number, **mask} for photo in of_split for mask in photo.annotations()]
        images = [
            {"id": p.number, "file_name": f"{p.name}{p.ending}", "width": p.width, "height": p.height} for p in of_split
        ]
        content = {
            "images": images,
            "annotations": [{"id": number, **mask} for number, mask in enumerate(annotations, 1)],
            "categories": categories(schema),
        }
        found[f"annotations/instances_{split}.json"] = json.dumps(content, ensure_ascii=False).encode()
    return found


def _lines(lines: Any) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


_CIHP_ROOT = "instance-level_human_parsing"
_CIHP_FOLDERS = {split: f"{_CIHP_ROOT}/{folder}" for split, folder in cihp.FOLDERS.items()}
_PASCAL_LISTS = "pascal_person_part_trainval_list/{split}.txt"
WRITERS = {
    "lip": LayoutWriter(LIP, ("train", "val"), _lip, _text_lists("TrainVal_images/{split}_id.txt")),
    "cihp": LayoutWriter(CIHP, tuple(cihp.FOLDERS), _cihp, _text_lists("{folder}/{split}_id.txt")),
    "pascal-person-part": LayoutWriter(
        PASCAL_PERSON_PART, ("train", "val", "test"), _pascal_person_part, _text_lists(_PASCAL_LISTS)
    ),
    "helen": LayoutWriter(HELEN, tuple(helen.LISTS), _helen, _helen_lists, has_ignored=False),
    "folder": LayoutWriter(None, (), _folder, _folder_lists),
    "coco": LayoutWriter(None, (), _coco, _coco_lists, has_ignored=False),
}
"""How each layout is written."""
