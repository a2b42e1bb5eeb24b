"""What lies before the annotator: the accepted masks, as the draft has them or as they were answered a moment ago.

Label Studio saves a draft some seconds after the last change. Who clicks part after part is faster, so the draft knows
nothing of the masks that were just accepted. A memory of the last answers fills that gap. It is a help, not a record:
what the draft says counts, and a replica that does not remember answers all the same.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import Box, box_of
from ihp_backend.inference.correction import only_where_clicked
from ihp_backend.label_studio.regions import AcceptedMask

_LIFETIME_S = 60.0
_TASKS = 64
_ANSWERS = 40


@dataclass(frozen=True)
class _Answer:
    id: str
    label: str
    keypoints: frozenset[str]
    shape: tuple[int, int]
    box: Box
    bits: NDArray[np.bool_]
    at: float

    def mask(self) -> NDArray[np.bool_]:
        mask = np.zeros(self.shape, bool)
        mask[self.box.slices] = self.bits
        return mask


class Workbench:
    """Remembers the last answers of the last tasks for a minute. May be shared between threads."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._tasks: OrderedDict[str, OrderedDict[str, _Answer]] = OrderedDict()
        self._lock = Lock()

    def remember(
        self, task: str, region_id: str, label: str, mask: NDArray[np.bool_], keypoints: Collection[str]
    ) -> None:
        """Keeps an answer.

        Args:
            task: Names the project and the task.
            region_id: Id of the answered region.
            label: Its label.
            mask: (H, W).
            keypoints: Ids of the keypoints that it answers: as long as they are open, it is not accepted.
        """
        box = box_of(mask)
        if box is None:
            return
        height, width = mask.shape
        bits = mask[box.slices].copy()
        answer = _Answer(region_id, label, frozenset(keypoints), (height, width), box, bits, self._clock())
        with self._lock:
            answers = self._tasks.setdefault(task, OrderedDict())
            self._tasks.move_to_end(task)
            answers[region_id] = answer
            answers.move_to_end(region_id)
            while len(answers) > _ANSWERS:
                answers.popitem(last=False)
            while len(self._tasks) > _TASKS:
                self._tasks.popitem(last=False)

    def accepted(
        self,
        task: str,
        drawn: Sequence[AcceptedMask],
        clicks: Sequence[Click],
        open_keypoints: Collection[str],
        shape: tuple[int, int],
    ) -> list[AcceptedMask]:
        """Returns the masks of the draft, and those answered since, as far as they are accepted by all signs.

        An answer whose keypoints are open still is a suggestion, or was rejected. So is one into which another label
        is clicked. A mask of the draft into which another label is clicked is contradicted: it becomes a guess.

        Args:
            task: Names the project and the task.
            drawn: Masks of the draft.
            clicks: Of this request.
            open_keypoints: Ids of the keypoints in the request and in the draft.
            shape: Height and width of the photo.
        """
        now = self._clock()
        with self._lock:
            answers = [a for a in self._tasks.get(task, {}).values() if now - a.at < _LIFETIME_S and a.shape == shape]

        def is_contradicted(label: str, mask: NDArray[np.bool_]) -> bool:
            return any(c.is_positive and c.part != label and mask[c.pixel(*shape)] for c in clicks)

        masks = {m.id: replace(m, is_guess=True) if is_contradicted(m.label, m.mask) else m for m in drawn}
        for answer in answers:
            if not answer.keypoints.isdisjoint(open_keypoints):
                continue
            mask = answer.mask()
            if is_contradicted(answer.label, mask):
                continue
            masks[answer.id] = AcceptedMask(answer.id, answer.label, mask)
        return list(masks.values())


_NEAR = 0.5
"""A click that is farther from a mask than this share of the mask's longer side does not correct it."""


@dataclass(frozen=True)
class Scene:
    """What a click finds.

    Attributes:
        clicks: The clicks of the request, in image pixels.
        other_clicks: Open clicks of other labels.
        accepted: The masks that are there.
        keypoints: Ids of the request's keypoints.
    """

    clicks: Sequence[Click]
    other_clicks: Sequence[Click]
    accepted: Sequence[AcceptedMask]
    keypoints: frozenset[str]

    def corrected(self, label: str) -> AcceptedMask | None:
        """Returns the mask of this label that the newest click means: it lies in it or near it.

        With none, the click begins a new one, such as another person's.
        """
        click = [c for c in self.clicks if c.part == label][-1]
        candidates = [(_distance(a.mask, click), a) for a in self.accepted if a.label == label]
        near = [(distance, mask) for distance, mask in candidates if distance <= _NEAR]
        return min(near, key=lambda pair: pair[0])[1] if near else None

    def guides(self, label: str, corrected: AcceptedMask | None) -> dict[str, NDArray[np.bool_]]:
        """Returns the masks (H, W) that the network is shown, one a label: what others accepted, what is corrected."""
        guides: dict[str, NDArray[np.bool_]] = {}
        for accepted in self.accepted:
            if accepted.is_guess or (accepted.label == label and accepted is not corrected):
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
    ) -> list[AcceptedMask]:
        """Makes the regions of the answer: the clicked label's first.

        A corrected mask keeps its id, by which Label Studio replaces it, and changes only where it is clicked on.
        Guesses of a prediction give way: they are answered again without what the new mask takes.

        Args:
            label: The clicked label.
            masks: (H, W) of each answered label, what the network says they are.
            corrected: The mask that is corrected, if there is one.
            may_overlap: Whether masks of one label may overlap.
        """
        mask = masks[label]
        if corrected is not None and not corrected.is_guess:
            mask = only_where_clicked(corrected.mask, mask, [c for c in self.clicks if c.part == label])
        for other in self.accepted:
            is_clicked = any(other.mask[c.pixel(*mask.shape)] for c in self.clicks if c.part == label and c.is_positive)
            if other.label == label and other is not corrected and not may_overlap and not is_clicked:
                mask = mask & ~other.mask
        if not mask.any():
            return []
        answers = [AcceptedMask(corrected.id if corrected is not None else _new_id(), label, mask)]
        guesses = {other.label for other in self.accepted if other.is_guess}
        for name, suggested in masks.items():
            rest = suggested & ~mask
            if name != label and name not in guesses and rest.any():
                answers.append(AcceptedMask(_new_id(), name, rest))
        for other in self.accepted:
            if other.is_guess and other.label != label and (other.mask & mask).any():
                rest = other.mask & ~mask
                if rest.any():
                    answers.append(AcceptedMask(other.id, other.label, rest))
        return answers


def _new_id() -> str:
    return uuid.uuid4().hex[:10]


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
