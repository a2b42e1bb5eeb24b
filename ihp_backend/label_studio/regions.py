"""Regions of Label Studio: keypoints become clicks, brush regions masks, masks brush regions."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Collection, Mapping, Sequence
from time import thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ihp_backend.annotation.masks import AcceptedMask, PackedMask, TimedClick
from ihp_backend.clicks import Click
from ihp_backend.geometry import Box, percent_to_pixels
from ihp_backend.label_studio.click_provenance import from_meta, is_untouched, to_meta
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.label_studio.mask_values import (
    OUTPUTS,
    POLYGON,
    RECTANGLE,
    MaskError,
    decode,
    decode_packed,
    encode,
    holds_mask,
    label_of,
    size_of,
)
from ihp_backend.label_studio.percent import is_number, is_percent
from ihp_backend.label_studio.persons import of_person, person_of
from ihp_backend.label_studio.pieces import mask_and_piece, piece_id, together

logger = logging.getLogger(__name__)

_MOST_REGIONS = 2_000
MOST_MASK_BYTES = 2_000_000_000
"""A mask takes a byte a pixel while it is answered."""
MOST_SECONDS = 30.0
"""Of the processor, for all masks of a draft: one polygon that crosses itself takes 0.7 s, and there may be 2000."""
_ID_LENGTH = 100
"""Label Studio's own have ten letters; some are remembered."""


class RequestError(ValueError):
    """A request is malformed; the message says where and what was expected."""


def working_results(task: Mapping[str, Any], keypoints: Collection[str] = ()) -> list[dict[str, Any]]:
    """Returns the regions that the annotator sees, as far as the task tells: those of the newest draft.

    A request holds the drafts of all annotators of the task, and does not say whose it is. One that has an open
    keypoint of the request is the asker's own.

    Without a draft, those of the annotation if there is one only: it may be open to be changed. Of several, nobody can
    know which. Cancelled (skipped) annotations do not count. Of a task that nobody has annotated, those of the first
    prediction: Label Studio opens the task with them, and saves them with the first draft.

    Args:
        task: Label Studio's task.
        keypoints: Ids of the keypoints in the request.

    Raises:
        RequestError: If there are more than an annotator could have made.
    """
    results = _shown(task, keypoints)
    if len(results) > _MOST_REGIONS:
        raise RequestError(f"the draft has {len(results)} regions; expected at most {_MOST_REGIONS}")
    return results


def _shown(task: Mapping[str, Any], keypoints: Collection[str]) -> list[dict[str, Any]]:
    drafts = _dicts(task.get("drafts"))
    own = [d for d in drafts if any(region_id(r) in keypoints for r in _dicts(d.get("result")))]
    drafts = own or drafts
    if drafts:
        newest = max(drafts, key=lambda d: (str(d.get("updated_at") or d.get("created_at") or ""), _id(d)))
        return _dicts(newest.get("result"))
    annotations = _dicts(task.get("annotations"))
    if not annotations:
        predictions = _dicts(task.get("predictions"))
        shown = _dicts(predictions[0].get("result")) if predictions else []
        return [result | {"origin": "prediction"} for result in shown]
    valid = [a for a in annotations if not a.get("was_cancelled")]
    return _dicts(valid[0].get("result")) if len(valid) == 1 else []


def most_drawn(task: Mapping[str, Any]) -> int:
    """Returns how many masks the largest draft or annotation of a task has."""
    kept = [*_dicts(task.get("drafts")), *_dicts(task.get("annotations"))]
    return max((sum(r.get("type") in OUTPUTS for r in _dicts(k.get("result"))) for k in kept), default=0)


def longest_stream(task: Mapping[str, Any]) -> int:
    """Returns how many bytes the longest brush RLE of a task's drafts and annotations has."""
    kept = [*_dicts(task.get("drafts")), *_dicts(task.get("annotations"))]
    values = (region.get("value") for k in kept for region in _dicts(k.get("result")))
    streams = (value.get("rle") for value in values if isinstance(value, Mapping))
    return max((len(stream) for stream in streams if isinstance(stream, list)), default=0)


def saved_state(task: Mapping[str, Any]) -> str:
    """Names what is saved of a task, drafts and annotations: another text, once Label Studio has saved again.

    A submit deletes the draft: without the annotations, the state after it would be that before the first draft.
    """
    saved = [[(r.get("id"), r.get("updated_at")) for r in _dicts(task.get(k))] for k in ("drafts", "annotations")]
    return short_name(saved)


def short_name(value: object) -> str:
    """Names a value in few letters, however long it is: another name for another value."""
    return hashlib.blake2b(repr(value).encode("utf-8", "replace"), digest_size=16).hexdigest()


def has_short_id(result: Mapping[str, Any]) -> bool:
    """Whether a region's id is one that Label Studio could have given, or none."""
    return len(str(result.get("id"))) <= _ID_LENGTH


def region_id(result: Mapping[str, Any]) -> str:
    """Returns a region's id; for one without, as the API allows them, a name made of what it is: always the same."""
    given = result.get("id")
    if given and isinstance(given, str | int) and given is not True:
        return str(given)
    return short_name([result.get(k) for k in ("type", "from_name", "to_name", "is_positive", "value")])[:10]


def _own_id(result: Mapping[str, Any], taken: Collection[str]) -> str:
    """A region's id, or another one if an earlier region has it."""
    found = region_id(result)
    copies = 1
    while found in taken:
        copies += 1
        found = short_name((region_id(result), copies))[:10]
    return found


def read_clicks(results: Sequence[Mapping[str, Any]], config: LabelConfig, height: int, width: int) -> list[Click]:
    """Reads the keypoints of the config's keypoint control as clicks, in their order.

    An accepted suggestion is saved under the keypoint's type, too, with a mask: that is no click.

    Args:
        results: Regions as Label Studio sends them.
        config: The project's label config.
        height: Height of the image in pixels.
        width: Its width.

    Raises:
        RequestError: If a keypoint has no usable place, lies outside the image, or has a label that the brush
            control lacks.
    """
    clicks = []
    for result in results:
        if result.get("type") != "keypointlabels" or not config.is_on_image(result):
            continue
        region, value = f"keypoint {result.get('id')!r:.50}", result.get("value")
        if not isinstance(value, Mapping):
            if (result.get("from_name") or config.keypoint) != config.keypoint:
                continue
            raise RequestError(f"{region} has no `value`; expected x, y and keypointlabels")
        if holds_mask(value):
            continue
        labels = value.get("keypointlabels")
        if (name := result.get("from_name") or config.keypoint) != config.keypoint:
            first = labels[0] if isinstance(labels, list) and labels else None
            if not (isinstance(name, str) and isinstance(first, str) and config.takes_click(name, first)):
                continue
        if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
            raise RequestError(f"{region} has keypointlabels {labels!r:.100}; expected one label")
        if labels[0] not in config.labels:
            raise RequestError(
                f'{region} has the label {labels[0]!r:.100}, which <BrushLabels name="{config.brush}"> lacks; it has '
                f"{', '.join(config.labels):.1000}"
            )
        x, y = (_percent(value.get(axis), axis, region) for axis in ("x", "y"))
        clicks.append(
            Click(*percent_to_pixels(x, y, height, width), labels[0], result.get("is_positive", True) is not False)
        )
    return clicks


def read_boxes(results: Sequence[Mapping[str, Any]], config: LabelConfig, height: int, width: int) -> dict[str, Box]:
    """Reads the boxes that ask for their parts; of several of one label the newest counts.

    A turned one is the box around it. One that cannot be read is left out, with a log line.

    Args:
        results: Regions as Label Studio sends them.
        config: The project's label config.
        height: Height of the image in pixels.
        width: Its width.
    """
    found = {}
    for region in results:
        inside = _mask_of(region, height, width) if config.is_prompt_box(region) else None
        if inside is not None and not inside.is_empty:
            found[label_of(region)] = inside.box
    return found


def read_masks(
    results: Sequence[Mapping[str, Any]], config: LabelConfig, height: int, width: int
) -> list[AcceptedMask]:
    """Reads the masks of the config's controls: of rectangles their inside, of a mask's polygons all of them together.

    A region that cannot be read, has another size than the image, or a label that the config lost is left out with
    a log line: one bad region must not stop an annotator.

    Raises:
        RequestError: If the masks would not fit into memory, or take longer than any annotator's.
    """
    masks: list[AcceptedMask] = []
    until = thread_time() + MOST_SECONDS
    for pieces in together(r for r in results if config.is_painted(r) and _is_of_its_control(r, config)):
        if (len(masks) + 1) * height * width > MOST_MASK_BYTES:
            raise RequestError(
                f"the draft has more than {len(masks)} masks of {width}x{height} pixels; expected at most "
                f"{MOST_MASK_BYTES // 10**6} MB of them: label smaller photos"
            )
        read: list[Mapping[str, Any]] = []
        found: list[PackedMask] = []
        for region in pieces:
            if thread_time() > until:
                raise RequestError(f"the draft's masks take over {MOST_SECONDS:.0f} s to read: no annotator made them")
            if (mask := _mask_of(region, height, width)) is not None:
                read.append(region)
                found.append(mask)
        if found:
            masks.append(_accepted(read, PackedMask.union(found), {m.id for m in masks}))
    return masks


def _is_of_its_control(region: Mapping[str, Any], config: LabelConfig) -> bool:
    """Whether a region's label is one of the config's, and painted with the region's control."""
    label = label_of(region)
    if label not in config.labels:
        logger.warning("region %.50s has the label %.100r, which the config lacks", region.get("id"), label)
        return False
    return (region.get("from_name") or config.brush_of(label)) == config.brush_of(label)


def _mask_of(region: Mapping[str, Any], height: int, width: int) -> PackedMask | None:
    """The mask of a region; ``None``, and a log line, if it cannot be read."""
    size = size_of(region, height, width)
    if size != (height, width):
        logger.warning("region %.50s is for a photo of %.50s, not %s", region.get("id"), size, (height, width))
    elif not has_short_id(region):
        logger.warning("a region has an id of more than %d letters", _ID_LENGTH)
    else:
        try:
            return decode_packed(region, height, width)
        except MaskError as error:
            logger.warning("region %s cannot be read: %s", region.get("id"), error)
    return None


def _accepted(pieces: Sequence[Mapping[str, Any]], mask: PackedMask, taken: Collection[str]) -> AcceptedMask:
    """The mask that some regions make together; what is told of it is told by the first."""
    first, label = pieces[0], label_of(pieces[0])
    mask_id, number = mask_and_piece(first)
    return AcceptedMask(
        _own_id(first if number == 1 else {**first, "id": mask_id}, taken),
        label,
        mask,
        first.get("origin") == "prediction" or is_untouched(first.get("meta"), mask),
        from_meta(first.get("meta"), label, mask),
        _score(first.get("score")),
        person=person_of(first),
        pieces=max(mask_and_piece(region)[1] for region in pieces),
        is_box=first.get("type") == RECTANGLE,
    )


def mask_regions(
    mask: NDArray[np.bool_],
    label: str,
    score: float,
    config: LabelConfig,
    region_id: str | None = None,
    clicks: Sequence[TimedClick] = (),
    person: int | None = None,
    pieces: int = 1,
    *,
    from_prediction: bool = False,
) -> list[dict[str, Any]]:
    """Returns a mask as regions of the control that its label is painted with: one, or a polygon for each piece.

    An empty one removes the region of its id: it is ``dynamic``, as the wand's keypoints are, and Label Studio deletes
    what is dynamic when suggestions are accepted.

    Args:
        mask: (H, W) bool.
        label: What it is.
        score: 0 to 1.
        config: The project's label config.
        region_id: Of the mask that it replaces.
        clicks: Those that made it; they go into the first region's ``meta``.
        person: Whose it is, 1, 2 ...; it goes there, too.
        pieces: As how many regions the mask may be there that it replaces; those that it does not need are removed.
        from_prediction: It is what is left of a prediction's mask, of which nobody has said that it is right.
    """
    height, width = mask.shape
    kind, own_id = config.mask_type(label), region_id or uuid.uuid4().hex[:10]
    values = encode(mask, label, kind, config.tolerance, [t.click.pixel(height, width) for t in clicks])
    there = len(values) if mask.any() else 0
    if len(values) < pieces:
        values += encode(np.zeros_like(mask), label, kind) * (pieces - len(values))
    regions: list[dict[str, Any]] = []
    for number, value in enumerate(values, 1):
        region = {
            "id": piece_id(own_id, number),
            "from_name": config.brush_of(label),
            "to_name": config.image,
            "type": kind,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": float(score),
            "value": value,
        }
        if config.item is not None:
            region["item_index"] = config.item
        if (clicks or from_prediction) and number == 1:
            region["meta"] = to_meta(clicks, _as_read(mask, kind, values[:there]))
        if person is not None:
            region = of_person(region, person)
        if number > there:
            region["dynamic"] = True
        regions.append(region)
    return regions


def _as_read(mask: NDArray[np.bool_], kind: str, values: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
    """What a mask (H, W) is read as: polygons are a little off, and a box is more."""
    if kind not in (POLYGON, RECTANGLE):
        return mask
    found = np.zeros_like(mask)
    for value in values:
        found |= decode({"type": kind, "value": value}, *mask.shape)
    return found


def _percent(value: object, axis: str, region: str) -> float:
    if not is_number(value):
        raise RequestError(f"{region} has {axis} {value!r:.50}; expected a number, percent of the image")
    if not is_percent(value):
        raise RequestError(f"{region} has {axis} {value!s:.50}; outside the image, expected 0 to 100 percent")
    return float(value)


def _score(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else None  # type: ignore[arg-type, operator]


def _dicts(values: object) -> list[dict[str, Any]]:
    return [v for v in values if isinstance(v, dict)] if isinstance(values, list) else []


def _id(record: Mapping[str, Any]) -> int:
    value = record.get("id")
    return value if isinstance(value, int) else 0
