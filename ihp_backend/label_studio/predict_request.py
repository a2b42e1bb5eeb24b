"""What a request for a prediction says: its task, its clicks, and the annotation that is open."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ihp_backend.annotation.masks import AcceptedMask
from ihp_backend.clicks import Click
from ihp_backend.geometry import Box
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.label_studio.mask_values import holds_mask, label_of
from ihp_backend.label_studio.regions import (
    RequestError,
    has_short_id,
    read_boxes,
    read_clicks,
    read_masks,
    region_id,
    working_results,
)

logger = logging.getLogger(__name__)

MOST_TASKS = 500
"""In one request. Label Studio sends all that were selected in one, and waits 100 s: 0.2 s for each."""
_MOST_CLICKS = 200
"""More open keypoints than anybody makes; each takes time."""


@dataclass(frozen=True)
class OpenAnnotation:
    """What a request tells of the annotation in which somebody has just clicked.

    Attributes:
        clicks: The clicks of the request, in image pixels.
        other_clicks: Open clicks of labels that the request does not click, in image pixels.
        masks: The masks of the draft.
        open_keypoints: Ids of the keypoints in the request.
        drafted_keypoints: Ids of those in the draft.
        boxes: Open boxes of the labels that are asked for, in image pixels.
        left_behind: Ids and labels of the draft's keypoints that Label Studio no longer takes away with a mask.
    """

    clicks: Sequence[Click]
    other_clicks: Sequence[Click]
    masks: Sequence[AcceptedMask]
    open_keypoints: frozenset[str]
    drafted_keypoints: frozenset[str]
    left_behind: Mapping[str, str]
    boxes: Mapping[str, Box] = field(default_factory=dict)


def read_tasks(tasks: Sequence[object]) -> list[Mapping[str, Any]]:
    """Returns the tasks of a request, each of which has ``data``.

    Raises:
        RequestError: If one is none, or there are more than ``MOST_TASKS``.
    """
    if len(tasks) > MOST_TASKS:
        raise RequestError(
            f"the request has {len(tasks)} tasks; expected at most {MOST_TASKS}: select fewer at once, or use "
            "`ihp preannotate`"
        )
    found = []
    for task in tasks:
        if not isinstance(task, Mapping) or not isinstance(task.get("data"), Mapping):
            raise RequestError("a task is not an object with `data`; expected {'id': 1, 'data': {'image': '...'}, ...}")
        found.append(task)
    return found


def read_context(context: object) -> list[dict[str, Any]] | None:
    """Returns the open keypoints of the clicked label; ``None`` without a click: the context is ``None`` or empty.

    Raises:
        RequestError: If the context has no list of regions, or one with a very long id.
    """
    if context is None or context == {}:
        return None
    results = context.get("result") if isinstance(context, Mapping) else None
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise RequestError("the context has no list `result` of objects; expected {'result': [a keypoint, ...]}")
    if not all(has_short_id(result) for result in results):
        raise RequestError("a keypoint of the context has a very long id; expected that of Label Studio, ten letters")
    return results


def read_annotation(
    task: Mapping[str, Any], clicked: Sequence[dict[str, Any]], config: LabelConfig, height: int, width: int
) -> OpenAnnotation:
    """Reads the clicks of a request, and the masks and further clicks of the annotation that they belong to.

    Args:
        task: Label Studio's task, with its drafts and annotations.
        clicked: The keypoints of the request.
        config: The project's label config.
        height: Height of the image in pixels.
        width: Its width.

    Raises:
        RequestError: If a keypoint cannot be read, or there is more than an annotator could have made.
    """
    clicks = read_clicks(clicked, config, height, width)
    drawn = working_results(task, {region_id(result) for result in clicked})
    boxes = read_boxes(clicked, config, height, width)
    asked = {click.part for click in clicks} | boxes.keys()
    others = _other_clicks(drawn, config, height, width, {click.part for click in clicks})
    boxes = {k: box for k, box in read_boxes(drawn, config, height, width).items() if k in asked} | boxes
    left_behind = _left_behind(drawn, clicked, config)
    if len(clicks) + len(others) > _MOST_CLICKS:
        raise RequestError(
            f"{len(clicks) + len(others)} keypoints are open; expected at most {_MOST_CLICKS}: accept their masks, "
            "or delete them"
        )
    opened, drafted = (
        frozenset(region_id(r) for r in results if r.get("type") == "keypointlabels" or config.is_prompt_box(r))
        for results in (clicked, drawn)
    )
    masks = read_masks(drawn, config, height, width)
    is_submitted = not task.get("drafts") and bool(task.get("annotations"))
    if is_submitted and any(c.is_positive and m.holds(c) for c in clicks for m in masks if not m.is_box):
        # Label Studio takes no plain click inside a mask: this annotation is another one, not the open one.
        masks = []
    return OpenAnnotation(clicks, others, masks, opened, drafted, left_behind, boxes)


def _other_clicks(
    drawn: Sequence[dict[str, Any]], config: LabelConfig, height: int, width: int, clicked: set[str]
) -> list[Click]:
    """Reads the open keypoints of the labels that were not clicked; the context has all of the clicked ones.

    What cannot be read is left out: a draft may be older than the label config.
    """
    clicks: list[Click] = []
    for result in drawn:
        if "is_positive" not in result:
            continue  # of a page that was loaded anew: Alt is forgotten
        try:
            clicks += read_clicks([result], config, height, width)
        except RequestError as error:
            logger.warning("a keypoint of the draft was left out: %s", error)
    return [click for click in clicks if click.part not in clicked]


def _left_behind(
    drawn: Sequence[Mapping[str, Any]], clicked: Sequence[Mapping[str, Any]], config: LabelConfig
) -> dict[str, str]:
    """The ids and labels of keypoints that outlive their masks.

    After a reload Label Studio has the points of the draft, but not that they are clicks: it does not send them, does
    not take them away when a mask is accepted, and saves them without ``is_positive``. Only a control that makes no
    other points is looked at.
    """
    if not config.smart_only:
        return {}
    sent = {region_id(result) for result in clicked}
    labels = {label_of(r) for r in clicked if r.get("type") == "keypointlabels"}  # the context has all open ones
    found = {}
    for result in drawn:
        label, name = label_of(result), region_id(result)
        is_point = result.get("type") == "keypointlabels" and result.get("from_name") == config.keypoint
        if not is_point or label not in config.labels or holds_mask(result["value"]) or not config.is_on_image(result):
            continue
        if name not in sent and has_short_id(result) and ("is_positive" not in result or label in labels):
            found[name] = label
    return found
