"""What lies before the annotator who has just clicked, and what the click changes in it."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.annotation.local_correction import only_where_clicked
from ihp_backend.annotation.masks import AcceptedMask, are_same
from ihp_backend.clicks import Click
from ihp_backend.geometry import box_of

_EARLIER_CLICKS = 200
"""So many clicks behind accepted masks are shown to the network; each takes time."""
_NEAR = 0.5
"""A click that is farther from a mask than this share of the mask's longer side does not correct it."""
_LIKE = 0.5
"""A mask follows the clicks on others only if it stays much the same (IoU): else it is somebody else's."""
_MOSTLY = 0.8
"""A new mask that holds this share of another one may take its place."""
_THIN = 0.02
"""What is left of a mask is a rim if it is nowhere thicker than twice this share of the mask's longer side."""


@dataclass(frozen=True)
class AnnotationState:
    """What a click finds.

    Attributes:
        clicks: The clicks of the request, in image pixels.
        other_clicks: Open clicks of other labels.
        accepted: The masks that are there.
        recent: What was answered a moment ago, and accepted or rejected since, and is of a clicked label, or
            contradicted by a click: nobody knows whether it is there.
        suggested: What may be an open suggestion to other clicks, removals included.
    """

    clicks: Sequence[Click]
    other_clicks: Sequence[Click]
    accepted: Sequence[AcceptedMask]
    recent: Sequence[AcceptedMask]
    suggested: Sequence[AcceptedMask] = ()

    @classmethod
    def of(
        cls,
        clicks: Sequence[Click],
        other_clicks: Sequence[Click],
        drawn: Sequence[AcceptedMask],
        recent: Sequence[AcceptedMask],
    ) -> AnnotationState:
        """Sorts what is there.

        A mask of the draft, or an open suggestion, into which another label is clicked is contradicted: it becomes a
        guess. A remembered one that is not open was rejected, most likely. A remembered correction of a mask of the
        draft is newer than it; an empty one has removed it.

        Args:
            clicks: Of the request.
            other_clicks: Open clicks of other labels.
            drawn: Masks of the draft.
            recent: Remembered masks.
        """

        def is_contradicted(mask: AcceptedMask) -> bool:
            return any(c.is_positive and c.part != mask.label and mask.holds(c) for c in clicks)

        labels = {c.part for c in clicks}
        unsure = []
        there = {m.id: replace(m, from_prediction=True) if is_contradicted(m) else m for m in drawn}
        for answer in recent:
            if not answer.mask.any():
                there.pop(answer.id, None)
            elif answer.id in there:  # a correction; to lose an accepted one would be worse than to show a rejected one
                there[answer.id] = replace(answer, from_prediction=is_contradicted(answer))
            elif answer.is_suggested:
                there[answer.id] = replace(answer, from_prediction=is_contradicted(answer) or not answer.clicks)
            elif answer.label in labels or is_contradicted(answer):
                unsure.append(answer)
            else:
                there[answer.id] = answer
        return cls(clicks, other_clicks, list(there.values()), unsure, [m for m in recent if m.is_suggested])

    def still_suggested(self, answers: Sequence[AcceptedMask]) -> list[AcceptedMask]:
        """Returns what an answer has to repeat lest it vanish: the open suggestions that it does not change.

        Args:
            answers: The regions of the answer so far.
        """
        answered = {answer.id for answer in answers}
        return [mask for mask in self.suggested if mask.id not in answered]

    def earlier_clicks(self, label: str, corrected: AcceptedMask | None) -> list[Click]:
        """Returns the newest clicks behind the masks that are there, oldest first: the network sees them again.

        Of other masks of the clicked label none: they are somebody else's, or apart.

        Args:
            label: The clicked label.
            corrected: The mask that is corrected, if there is one.
        """
        kept = [m for m in self.accepted if m.label != label]
        if corrected is not None:
            kept.append(corrected)
        open_clicks = {*self.clicks, *self.other_clicks}
        timed = sorted((t for mask in kept for t in mask.clicks if t.click not in open_clicks), key=lambda t: t.at)
        return [t.click for t in timed[-_EARLIER_CLICKS:]]

    def corrected(self, label: str) -> AcceptedMask | None:
        """Returns the mask of this label that the newest click means: it lies in it or near it.

        With none, the click begins a new one, such as another person's. Negative clicks alone make sense on something
        that was accepted only, so there the memory is good enough.
        """
        own = [c for c in self.clicks if c.part == label]
        corrects_memory = not any(c.is_positive for c in own)
        for masks in (self.accepted, self.recent if corrects_memory else ()):
            near = [(_distance(m.mask, own[-1]), m) for m in masks if m.label == label]
            distance, mask = min(near, key=lambda pair: pair[0], default=(np.inf, None))
            if distance <= _NEAR:
                return mask
        return None

    def refinable(self, label: str) -> list[str]:
        """Returns the other labels whose only mask was made by clicks."""
        labels = [m.label for m in self.accepted]
        return [m.label for m in self.accepted if m.clicks and m.label != label and labels.count(m.label) == 1]

    def mask_prompts(self, label: str, corrected: AcceptedMask | None) -> dict[str, NDArray[np.bool_]]:
        """Returns the masks (H, W) that the network is shown, one a label: what others accepted, what is corrected.

        Not those whose clicks are known: it sees the clicks.
        """
        prompts: dict[str, NDArray[np.bool_]] = {}
        if corrected is not None and not corrected.from_prediction and not corrected.clicks:
            prompts[label] = corrected.mask
        for accepted in self.accepted:
            if accepted.from_prediction or accepted.clicks or accepted.label == label:
                continue
            known = prompts.get(accepted.label)
            prompts[accepted.label] = accepted.mask if known is None else known | accepted.mask
        return prompts

    def answers(
        self,
        label: str,
        masks: Mapping[str, NDArray[np.bool_]],
        corrected: AcceptedMask | None,
        *,
        may_overlap: bool = False,
        refined: Collection[str] = (),
        on_others: NDArray[np.bool_] | None = None,
    ) -> list[AcceptedMask]:
        """Makes the regions of the answer: the clicked label's first.

        A corrected mask keeps its id, by which Label Studio replaces it, and changes only where it is clicked on.
        Guesses of a prediction give way: they are answered again without what the new mask takes. Of those that it
        takes whole, a new region takes the id and thereby the place of the largest; the others are answered empty,
        which removes them.

        Args:
            label: The clicked label.
            masks: (H, W) of each answered label, what the network says they are; changed in place.
            corrected: The mask that is corrected, if there is one.
            may_overlap: Whether it may run over masks that are there; then none gives way.
            refined: Other labels whose masks follow this click.
            on_others: (H, W), what of the corrected mask is on other people than the clicked one: it becomes a region
                of its own.
        """
        mask, following = masks[label], self._following(masks, refined)
        others = () if may_overlap else [m for m in self.accepted if m.id not in following]
        if corrected is not None and not corrected.from_prediction and not corrected.clicks:
            mask = only_where_clicked(corrected.mask, mask, [c for c in self.clicks if c.part == label])
        stay = [m for m in others if not (m is corrected or m.from_prediction or self._is_clicked(m, label))]
        mask = _kept_free(mask, stay)
        if not mask.any():
            return []
        replaced = corrected or self._replaced(label, mask, may_overlap=may_overlap)
        own = AcceptedMask(_new_id() if replaced is None else replaced.id, label, mask)
        if replaced is not None and replaced.label == label:
            own = replace(own, clicks=replaced.clicks)
        answers = [own]
        if on_others is not None and (on_others & ~mask).any():
            answers.append(AcceptedMask(_new_id(), label, on_others & ~mask))
        guesses = {other.label for other in self.accepted if other.from_prediction}
        free = _kept_free(~mask, others)
        for other in self.accepted:
            if other.id in following:
                better = following[other.id] & free
                free &= ~better
                if better.any() and not np.array_equal(better, other.mask):
                    answers.append(replace(other, pixels=better, from_prediction=False, score=None))
        for name, rest in masks.items():
            if name == label or name in guesses or name in refined:
                continue
            if any(other.label == name and (other.mask & rest).any() for other in self.accepted):
                continue  # it is there already; what lies beside it would be slivers
            rest &= free  # in place: a dozen masks of a large photo are a lot of memory
            if rest.any():
                answers.append(AcceptedMask(_new_id(), name, rest))
        for other in () if may_overlap else self.accepted:
            is_kept = other is replaced or other.id in following or not other.from_prediction
            if not is_kept and (other.mask & mask).any():
                if _is_taken(other.mask, mask):
                    answers.append(replace(other, pixels=np.zeros_like(mask), from_prediction=False, clicks=()))
                else:
                    answers.append(replace(other, pixels=other.mask & ~mask, from_prediction=False))
        return answers

    def _replaced(self, label: str, mask: NDArray[np.bool_], *, may_overlap: bool) -> AcceptedMask | None:
        """The mask whose place a new one takes: one that was accepted a moment ago, if it was, or a guess."""
        same = [m for m in self.recent if m.label == label and are_same(m.mask, mask)]
        guesses = [m for m in self.accepted if m.from_prediction and m.label != label and _is_taken(m.mask, mask)]
        recent = [m for m in self.recent if self._is_clicked(m, label) and _is_taken(m.mask, mask)]
        for found in (same,) if may_overlap else (same, guesses, recent):
            if found:
                return max(found, key=lambda m: int(m.mask.sum()))
        return None

    def _is_clicked(self, mask: AcceptedMask, label: str) -> bool:
        """Whether a positive click of this label lies in a mask."""
        return any(c.part == label and c.is_positive and mask.holds(c) for c in self.clicks)

    def _following(
        self, masks: Mapping[str, NDArray[np.bool_]], refined: Collection[str]
    ) -> dict[str, NDArray[np.bool_]]:
        """The new masks, by id, of those that follow: much like what they were, and as their own clicks say."""
        found = {}
        for before in self.accepted:
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


def _distance(mask: NDArray[np.bool_], click: Click) -> float:
    """Distance of a click to a mask, as a share of the longer side of the mask's box; 0 inside."""
    box = box_of(mask)
    if box is None:
        return float("inf")
    row, column = click.pixel(*mask.shape)
    if mask[row, column]:
        return 0.0
    rows, columns = np.nonzero(mask[box.slices])
    squared = (rows + box.top - row) ** 2 + (columns + box.left - column) ** 2
    return float(np.sqrt(squared.min()) / max(box.width, box.height))
