"""The answer to a click: the masks that it makes, and what it changes in those that are there."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.annotation.local_correction import correct_locally
from ihp_backend.annotation.masks import AcceptedMask, are_same
from ihp_backend.annotation.state import AnnotationState
from ihp_backend.geometry import box_of

_LIKE = 0.5
"""A mask follows clicks on other labels only if its new form has at least this IoU with the old one. Otherwise the new
mask is likely another person's."""
_MOSTLY = 0.8
"""A new mask that holds this share of another one may take its place."""
_THIN = 0.02
"""What is left of a mask is a rim if it is nowhere thicker than twice this share of the mask's longer side."""


def answer_masks(
    state: AnnotationState,
    label: str,
    masks: Mapping[str, NDArray[np.bool_]],
    corrected: AcceptedMask | None,
    *,
    may_overlap: bool = False,
    refined: Collection[str] = (),
    on_others: NDArray[np.bool_] | None = None,
    person: int | None = None,
) -> list[AcceptedMask]:
    """Makes the masks of the answer: the clicked label's first.

    A corrected mask keeps its id, by which Label Studio replaces it, and changes only where it is clicked on.
    Untouched masks of a prediction give way: they are answered again without the pixels that the new mask takes. If
    the new mask takes some of them whole, it gets the id, and thereby the place, of the largest. The others are
    answered empty, which removes them.

    Args:
        state: What the click finds.
        label: The clicked label.
        masks: (H, W) bool for each answered label, as the network predicts them; changed in place.
        corrected: The mask that is corrected, if there is one.
        may_overlap: Whether the new mask may overlap existing ones; then these stay as they are.
        refined: Other labels whose masks follow this click.
        on_others: (H, W), what of the corrected mask is on other people than the clicked one: it becomes a region
            of its own.
        person: Whose the click is; ``None``: not known, or not to be told.
    """
    mask, following = masks[label], _following(state, masks, refined)
    others = () if may_overlap else [m for m in state.accepted if m.id not in following and not m.is_box]
    if corrected is not None and not (corrected.from_prediction or corrected.clicks or corrected.is_box):
        mask = correct_locally(corrected.mask, mask, [c for c in state.clicks if c.part == label])
    stay = [m for m in others if not (m is corrected or m.from_prediction or state.is_clicked(m, label))]
    mask = _kept_free(mask, stay)
    if not mask.any():
        return []
    replaced = corrected or _replaced(state, label, mask, may_overlap=may_overlap)
    own = AcceptedMask(_new_id() if replaced is None else replaced.id, label, mask, person=person)
    if replaced is not None:
        clicks = replaced.clicks if replaced.label == label else ()
        own = replace(own, clicks=clicks, person=person or replaced.person, pieces=replaced.pieces)
    answers = [own]
    if on_others is not None and (on_others & ~mask).any():
        answers.append(AcceptedMask(_new_id(), label, on_others & ~mask))
    predicted = {other.label for other in state.accepted if other.from_prediction}
    free = _kept_free(~mask, others)
    for other in state.accepted:
        if other.id in following:
            better = following[other.id] & free
            free &= ~better
            if better.any() and not np.array_equal(better, other.mask):
                answers.append(replace(other, pixels=better, from_prediction=False, score=None))
    for name, rest in masks.items():
        if name == label or name in predicted or name in refined:
            continue
        if any(other.label == name and (other.mask & rest).any() for other in state.accepted):
            continue  # it is there already; what lies beside it would be slivers
        rest &= free  # in place: a dozen masks of a large photo are a lot of memory
        if rest.any():
            answers.append(AcceptedMask(_new_id(), name, rest))
    for other in () if may_overlap else state.accepted:
        is_kept = other is replaced or other.id in following or other.is_box or not other.from_prediction
        if not is_kept and (other.mask & mask).any():
            if _is_taken(other.mask, mask):
                answers.append(replace(other, pixels=np.zeros_like(mask), from_prediction=False, clicks=()))
            else:
                answers.append(replace(other, pixels=other.mask & ~mask))  # and gives way again
    return answers


def _replaced(state: AnnotationState, label: str, mask: NDArray[np.bool_], *, may_overlap: bool) -> AcceptedMask | None:
    """The mask whose place a new one takes: an answer of the last minute, or an untouched mask of a prediction."""
    same = [m for m in state.recent if m.label == label and are_same(m.mask, mask)]
    predicted = [m for m in state.accepted if m.from_prediction and not m.is_box and m.label != label]
    predicted = [m for m in predicted if _is_taken(m.mask, mask)]
    recent = [m for m in state.recent if state.is_clicked(m, label) and _is_taken(m.mask, mask)]
    for found in (same,) if may_overlap else (same, predicted, recent):
        if found:
            return max(found, key=lambda m: int(m.mask.sum()))
    return None


def _following(
    state: AnnotationState, masks: Mapping[str, NDArray[np.bool_]], refined: Collection[str]
) -> dict[str, NDArray[np.bool_]]:
    """The new masks, by id, of regions that follow a click on another label: like before, and true to their clicks."""
    found = {}
    for before in state.accepted:
        after = masks.get(before.label)
        if before.label not in refined or after is None:
            continue
        is_like = (before.mask & after).sum() >= _LIKE * (before.mask | after).sum()
        if is_like and all(after[t.click.pixel(*after.shape)] == t.click.is_positive for t in before.clicks):
            found[before.id] = after
    return found


def _new_id() -> str:
    return uuid.uuid4().hex[:10]


def _kept_free(mask: NDArray[np.bool_], others: Sequence[AcceptedMask]) -> NDArray[np.bool_]:
    """Returns what of a mask (H, W) lies on none of the others."""
    free = mask.copy()
    for other in others:
        other.take_from(free)
    return free


def _is_taken(mask: NDArray[np.bool_], by: NDArray[np.bool_]) -> bool:
    """Whether another mask takes all of it, but for a rim."""
    box = box_of(mask)
    if box is None:
        return False
    own, rest = mask[box.slices], mask[box.slices] & ~by[box.slices]
    if rest.sum() > (1 - _MOSTLY) * own.sum():
        return False
    distance = cv2.distanceTransform(np.pad(rest.astype(np.uint8), 1), cv2.DIST_L2, 3)
    return bool(distance.max() <= max(1.0, _THIN * max(box.width, box.height)))
