"""What lies before the annotator: the accepted masks, as the draft has them or as they were answered a moment ago.

Label Studio saves a draft some seconds after the last change. Who clicks part after part is faster, so the draft knows
nothing of the masks that were just accepted. A memory of the last answers fills that gap. It is a help, not a record:
a request does not tell whether an answer was accepted or rejected, for both take its keypoint away. So a remembered
mask keeps other labels off it, and a remembered correction counts as made, but no mask comes back by itself. Once a
newer draft or annotation is there, or the task is opened again, only what is saved counts.

A request does not tell who asks either: of two who click on one photo within seconds, before anything is saved, each
finds the other's masks kept free.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from time import monotonic

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.annotation.click_provenance import TimedClick
from ihp_backend.annotation.local_correction import only_where_clicked
from ihp_backend.clicks import Click
from ihp_backend.geometry import Box, box_of
from ihp_backend.label_studio.regions import AcceptedMask

_LIFETIME_S = 60.0
_TASKS = 64
_ANSWERS = 40
_SETTLED = 200
"""So many clicks behind accepted masks are shown to the network; each takes time."""
_NEAR = 0.5
"""A click that is farther from a mask than this share of the mask's longer side does not correct it."""
_LIKE = 0.5
"""A mask follows the clicks on others only if it stays much the same (IoU): else it is somebody else's."""
_MOSTLY = 0.8
"""A new mask that holds this share of another one may take its place."""
_THIN = 0.02
"""What is left of a mask is a rim if it is nowhere thicker than twice this share of the mask's longer side."""
_SAME = 0.5
"""Of two answers of one label that share so much of the smaller one, the newer takes the other one's place."""


@dataclass(frozen=True)
class _Answer:
    id: str
    label: str
    keypoints: frozenset[str]
    saved: str
    shape: tuple[int, int]
    box: Box
    bits: NDArray[np.uint8]  # eight pixels of the box in a byte
    clicks: tuple[TimedClick, ...]
    at: float

    def is_over(self, ids: Collection[str], keypoints: Collection[str], newer: Sequence[AcceptedMask]) -> bool:
        """Whether newer answers, to these keypoints, take this one's place."""
        return self.id in ids or self.keypoints.issubset(keypoints) or any(self._is_same(answer) for answer in newer)

    def _is_same(self, other: AcceptedMask) -> bool:
        if self.label != other.label or self.shape != other.mask.shape:
            return False
        return _are_same(self.mask(), other.mask)

    def mask(self) -> NDArray[np.bool_]:
        mask = np.zeros(self.shape, bool)
        inside = np.unpackbits(self.bits, count=self.box.height * self.box.width)
        mask[self.box.slices] = inside.reshape(self.box.height, self.box.width)
        return mask


class Workbench:
    """Remembers the last answers of the last tasks for a minute. May be shared between threads."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._tasks: OrderedDict[str, list[_Answer]] = OrderedDict()
        self._lock = Lock()

    def remember(self, task: str, saved: str, answers: Sequence[AcceptedMask], keypoints: Collection[str]) -> None:
        """Keeps the regions of an answer, in place of what was answered to the same keypoints or means the same mask.

        Args:
            task: Names the project and the task.
            saved: What was saved of the task when the request came, see ``saved_state``.
            answers: The answered regions.
            keypoints: Ids of the keypoints that they answer: as long as they are open, these are suggestions.
        """
        if not answers:
            return  # the suggestions that were there stay
        new = []
        for answer in answers:
            box = box_of(answer.mask) or Box(0, 0, 0, 0)
            height, width = answer.mask.shape
            bits, opened = np.packbits(answer.mask[box.slices]), frozenset(keypoints)
            made = (answer.id, answer.label, opened, saved, (height, width), box, bits, answer.clicks)
            new.append(_Answer(*made, self._clock()))
        ids = {answer.id for answer in answers}
        with self._lock:
            kept = [a for a in self._tasks.get(task, ()) if not a.is_over(ids, keypoints, answers)]
            self._tasks[task] = [*kept, *new][-_ANSWERS:]
            self._tasks.move_to_end(task)
            while len(self._tasks) > _TASKS:
                self._tasks.popitem(last=False)

    def forget(self, task: str) -> None:
        """Forgets a task's answers.

        Args:
            task: Names the project and the task.
        """
        with self._lock:
            self._tasks.pop(task, None)

    def recent(
        self,
        task: str,
        saved: str,
        open_keypoints: Collection[str],
        drafted_keypoints: Collection[str],
        shape: tuple[int, int],
    ) -> list[AcceptedMask]:
        """Returns what was answered since the last save, and is no open suggestion any more, the oldest first.

        Args:
            task: Names the project and the task.
            saved: What is saved of the task as this request comes.
            open_keypoints: Ids of the keypoints that were clicked.
            drafted_keypoints: Ids of those in the draft. An answer to one of them is newer than that draft, even if
                it was saved after the answer was given: it was not accepted yet then.
            shape: Height and width of the photo.
        """
        now = self._clock()
        with self._lock:
            answers = list(self._tasks.get(task, ()))
        return [
            AcceptedMask(a.id, a.label, a.mask(), clicks=a.clicks)
            for a in answers
            if now - a.at < _LIFETIME_S
            and a.shape == shape
            and (a.saved == saved or not a.keypoints.isdisjoint(drafted_keypoints))
            and a.keypoints.isdisjoint(open_keypoints)
        ]


@dataclass(frozen=True)
class Scene:
    """What a click finds.

    Attributes:
        clicks: The clicks of the request, in image pixels.
        other_clicks: Open clicks of other labels.
        accepted: The masks that are there.
        recent: What was answered a moment ago, and accepted or rejected since, and is of a clicked label, or
            contradicted by a click: nobody knows whether it is there.
    """

    clicks: Sequence[Click]
    other_clicks: Sequence[Click]
    accepted: Sequence[AcceptedMask]
    recent: Sequence[AcceptedMask]

    @classmethod
    def of(
        cls,
        clicks: Sequence[Click],
        other_clicks: Sequence[Click],
        drawn: Sequence[AcceptedMask],
        recent: Sequence[AcceptedMask],
    ) -> Scene:
        """Sorts what is there.

        A mask of the draft into which another label is clicked is contradicted: it becomes a guess. A remembered one
        was rejected, most likely. A remembered correction of a mask of the draft is newer than it.

        Args:
            clicks: Of the request.
            other_clicks: Open clicks of other labels.
            drawn: Masks of the draft.
            recent: Remembered masks.
        """

        def is_contradicted(mask: AcceptedMask) -> bool:
            shape = mask.mask.shape
            return any(c.is_positive and c.part != mask.label and mask.mask[c.pixel(*shape)] for c in clicks)

        labels = {c.part for c in clicks}
        unsure = []
        there = {m.id: replace(m, is_guess=True) if is_contradicted(m) else m for m in drawn}
        for answer in recent:
            if answer.id in there:  # a correction; to lose an accepted one would be worse than to show a rejected one
                there[answer.id] = replace(answer, is_guess=is_contradicted(answer))
            elif answer.label in labels or is_contradicted(answer):
                unsure.append(answer)
            else:
                there[answer.id] = answer
        return cls(clicks, other_clicks, list(there.values()), unsure)

    def settled(self, label: str, corrected: AcceptedMask | None) -> list[Click]:
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
        return [t.click for t in timed[-_SETTLED:]]

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

    def guides(self, label: str, corrected: AcceptedMask | None) -> dict[str, NDArray[np.bool_]]:
        """Returns the masks (H, W) that the network is shown, one a label: what others accepted, what is corrected.

        Not those whose clicks are known: it sees the clicks.
        """
        guides: dict[str, NDArray[np.bool_]] = {}
        if corrected is not None and not corrected.is_guess and not corrected.clicks:
            guides[label] = corrected.mask
        for accepted in self.accepted:
            if accepted.is_guess or accepted.clicks or accepted.label == label:
                continue
            known = guides.get(accepted.label)
            guides[accepted.label] = accepted.mask if known is None else known | accepted.mask
        return guides

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
        takes whole, a new region takes the id and thereby the place of the largest; the others are answered empty.

        Args:
            label: The clicked label.
            masks: (H, W) of each answered label, what the network says they are; changed in place.
            corrected: The mask that is corrected, if there is one.
            may_overlap: Whether it may run over masks that are there; then none gives way.
            refined: Other labels whose masks follow this click.
            on_others: (H, W), what of the corrected mask is on other people than the clicked one: it becomes a region
                of its own.
        """
        for name, mask in masks.items():
            for other_label, taken in () if may_overlap else self.guides(label, corrected).items():
                if other_label != name:
                    mask &= ~taken
        mask = masks[label]
        following = self._following(masks, refined)
        if corrected is not None and not corrected.is_guess and not corrected.clicks:
            mask = only_where_clicked(corrected.mask, mask, [c for c in self.clicks if c.part == label])
        for other in self.accepted:
            gives_way = self._is_clicked(other, label) or other.is_guess or other.id in following
            if other is not corrected and not may_overlap and not gives_way:
                mask = mask & ~other.mask
        if not mask.any():
            return []
        replaced = corrected or self._replaced(label, mask, may_overlap=may_overlap)
        own = AcceptedMask(_new_id() if replaced is None else replaced.id, label, mask)
        if replaced is not None and replaced.label == label:
            own = replace(own, clicks=replaced.clicks)
        answers = [own]
        if on_others is not None and (on_others & ~mask).any():
            answers.append(AcceptedMask(_new_id(), label, on_others & ~mask))
        guesses = {other.label for other in self.accepted if other.is_guess}
        free = ~mask
        for other in self.accepted:
            if not may_overlap and other.id not in following:
                free &= ~other.mask
        for other in self.accepted:
            if other.id in following:
                better = following[other.id] & free
                free &= ~better
                if better.any() and not np.array_equal(better, other.mask):
                    answers.append(replace(other, mask=better, is_guess=False))
        for name, rest in masks.items():
            if name == label or name in guesses or name in refined:
                continue
            if any(other.label == name and (other.mask & rest).any() for other in self.accepted):
                continue  # it is there already; what lies beside it would be slivers
            rest &= free  # in place: a dozen masks of a large photo are a lot of memory
            if rest.any():
                answers.append(AcceptedMask(_new_id(), name, rest))
        for other in () if may_overlap else self.accepted:
            is_kept = other is replaced or other.id in following or not other.is_guess or other.label == label
            if not is_kept and (other.mask & mask).any():
                if _is_taken(other.mask, mask):
                    answers.append(replace(other, mask=np.zeros_like(mask), is_guess=False, clicks=()))
                else:
                    answers.append(replace(other, mask=other.mask & ~mask, is_guess=False))
        return answers

    def _replaced(self, label: str, mask: NDArray[np.bool_], *, may_overlap: bool) -> AcceptedMask | None:
        """The mask whose place a new one takes: one that was accepted a moment ago, if it was, or a guess."""
        same = [m for m in self.recent if m.label == label and _are_same(m.mask, mask)]
        guesses = [m for m in self.accepted if m.is_guess and m.label != label and _is_taken(m.mask, mask)]
        recent = [m for m in self.recent if self._is_clicked(m, label) and _is_taken(m.mask, mask)]
        for found in (same,) if may_overlap else (same, guesses, recent):
            if found:
                return max(found, key=lambda m: int(m.mask.sum()))
        return None

    def _is_clicked(self, mask: AcceptedMask, label: str) -> bool:
        """Whether a positive click of this label lies in a mask."""
        shape = mask.mask.shape
        return any(c.part == label and c.is_positive and mask.mask[c.pixel(*shape)] for c in self.clicks)

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


def _are_same(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether two masks of one label mean the same thing."""
    return bool((one & other).sum() >= max(1, _SAME * min(one.sum(), other.sum())))


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
