"""The masks that were answered a moment ago: what the draft does not have yet.

Label Studio saves a draft some seconds after the last change. Who clicks part after part is faster, so the draft knows
nothing of the masks that were just accepted. A memory of the last answers fills that gap. It is a help, not a record:
a request does not tell whether an answer was accepted or rejected, for both take its keypoint away, or is still open,
for it holds the keypoints of the clicked label only. So a remembered mask keeps other labels off it, and a remembered
correction counts as made.

Label Studio shows the suggestions of its newest answer only, and none of an answer that comes after a later click. So
what may still be open is answered again with the next label's, under its own id: what was accepted is replaced by
itself. Once a newer draft or annotation is there, or the task is opened again, only what is saved counts.

A request does not tell who asks either: of two who click on one photo within seconds, before anything is saved, each
finds the other's masks kept free.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from time import monotonic

from ihp_backend.annotation.masks import AcceptedMask, are_same

_LIFETIME_S = 60.0
_SUGGESTED_S = 10.0
"""A draft is saved five seconds after a change, and on a busy server later: what is older is open if its keypoint is in
the draft, and only then."""
_TASKS = 64
_ANSWERS = 40


@dataclass(frozen=True)
class _Answer:
    mask: AcceptedMask
    keypoints: frozenset[str]
    clicked: frozenset[str]
    saved: str
    at: float

    def is_over(self, keypoints: Collection[str], newer: Sequence[AcceptedMask]) -> bool:
        """Whether newer answers, to these keypoints, take this one's place.

        Of one region the older answer stays: it counts again if the newer one is never accepted.
        """
        return self.keypoints.issubset(keypoints) or any(self._is_same(answer) for answer in newer)

    def _is_same(self, other: AcceptedMask) -> bool:
        mine = self.mask
        if mine.id == other.id or mine.label != other.label or mine.pixels.shape != other.pixels.shape:
            return False
        return are_same(mine.mask, other.mask)


class RecentAnswers:
    """Remembers the last answers of the last tasks for a minute. May be shared between threads."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._tasks: OrderedDict[str, list[_Answer]] = OrderedDict()
        self._lock = Lock()

    def remember(
        self,
        task: str,
        saved: str,
        answers: Sequence[AcceptedMask],
        keypoints: Collection[str],
        clicked: Collection[str],
    ) -> None:
        """Keeps the regions of an answer, in place of what was answered to the same keypoints or means the same mask.

        Args:
            task: Names the project and the task.
            saved: What was saved of the task when the request came, see ``saved_state``.
            answers: The answered regions.
            keypoints: Ids of the keypoints that they answer: as long as they are open, these are suggestions.
            clicked: The labels of the keypoints.
        """
        if not answers:
            return  # the suggestions that were there stay
        told = frozenset(keypoints), frozenset(clicked), saved, self._clock()
        new = [_Answer(replace(answer, pixels=answer.packed), *told) for answer in answers]
        with self._lock:
            kept = [a for a in self._tasks.get(task, ()) if not a.is_over(keypoints, answers)]
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
        clicked: Collection[str],
        shape: tuple[int, int],
    ) -> list[AcceptedMask]:
        """Returns what was answered since the last save to other keypoints than those of the request, oldest first.

        Args:
            task: Names the project and the task.
            saved: What is saved of the task as this request comes.
            open_keypoints: Ids of the keypoints that were clicked.
            drafted_keypoints: Ids of those in the draft. An answer to one of them is newer than that draft, even if
                it was saved after the answer was given: it was not accepted yet then.
            clicked: The labels that were clicked: all of their open keypoints are known, so answers to others of them
                are no open suggestions.
            shape: Height and width of the photo.
        """
        now = self._clock()
        with self._lock:
            answers = list(self._tasks.get(task, ()))
        found: dict[str, AcceptedMask] = {}
        for a in answers:
            age, is_drafted = now - a.at, not a.keypoints.isdisjoint(drafted_keypoints)
            is_unsaved = is_drafted or (a.saved == saved and age < _LIFETIME_S)
            if is_unsaved and a.mask.pixels.shape == shape and a.keypoints.isdisjoint(open_keypoints):
                found.pop(a.mask.id, None)  # an older answer of this region
                is_open = a.clicked.isdisjoint(clicked) and (is_drafted or age < _SUGGESTED_S)
                found[a.mask.id] = replace(a.mask, is_suggested=is_open)
        return list(found.values())
