"""What lies before the annotator who has just clicked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ihp_backend.annotation.masks import AcceptedMask, PackedMask
from ihp_backend.clicks import Click

_EARLIER_CLICKS = 200
"""So many clicks behind accepted masks are shown to the network; each takes time."""
_NEAR = 0.5
"""A click that is farther from a mask than this share of the mask's longer side does not correct it."""


@dataclass(frozen=True)
class AnnotationState:
    """What a click finds.

    Attributes:
        clicks: The clicks of the request, in image pixels.
        other_clicks: Open clicks of other labels.
        accepted: The masks that are there.
        recent: Answers of the last minute. The request does not say whether they were accepted or rejected. They have
            a clicked label, or another label was clicked into them.
        suggested: Answers to other clicks that may still wait to be accepted, empty masks (removals) included.
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
        """Sorts masks into accepted, recent and suggested ones.

        A click with another label into a mask contradicts it. Such a mask of the draft, or such an open suggestion, is
        treated like a prediction that nobody has touched. Such a remembered answer, if it is not open, was most likely
        rejected. A remembered answer with the id of a mask of the draft is newer than the draft: it takes that mask's
        place, and removes it if it is empty.

        Args:
            clicks: Of the request.
            other_clicks: Open clicks of other labels.
            drawn: Masks of the draft.
            recent: Remembered masks.
        """

        def is_contradicted(mask: AcceptedMask) -> bool:
            if mask.is_box:
                return False
            return any(c.is_positive and c.part != mask.label and mask.holds(c) for c in clicks)

        labels = {c.part for c in clicks}
        unsure = []
        there = {m.id: replace(m, from_prediction=True) if is_contradicted(m) else m for m in drawn}
        for answer in recent:
            if answer.packed.is_empty:
                there.pop(answer.id, None)
            elif answer.id in there:  # a correction; to lose an accepted one would be worse than to show a rejected one
                there[answer.id] = replace(answer, from_prediction=answer.from_prediction or is_contradicted(answer))
            elif answer.is_suggested:
                there[answer.id] = replace(answer, from_prediction=is_contradicted(answer) or not answer.clicks)
            elif answer.label in labels or is_contradicted(answer):
                unsure.append(answer)
            else:
                there[answer.id] = answer
        return cls(clicks, other_clicks, list(there.values()), unsure, [m for m in recent if m.is_suggested])

    def still_suggested(self, answers: Sequence[AcceptedMask]) -> list[AcceptedMask]:
        """Returns the open suggestions that an answer does not change. It has to repeat them, or they vanish.

        Args:
            answers: The regions of the answer so far.
        """
        answered = {answer.id for answer in answers}
        return [mask for mask in self.suggested if mask.id not in answered]

    def earlier_clicks(self, label: str, corrected: AcceptedMask | None) -> list[Click]:
        """Returns the newest clicks behind the masks that are there, oldest first: the network sees them again.

        Clicks behind other masks of the clicked label are left out: those masks are another person's, or another piece.

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

    def corrected(self, label: str, person: int | None = None) -> AcceptedMask | None:
        """Returns the mask of this label in or near which the newest click lies.

        ``None`` if the click begins a new mask, such as another person's. Negative clicks alone can only correct a mask
        that exists, so with them a remembered answer counts as accepted.

        Args:
            label: The clicked label.
            person: Whose the click is, if that is known: a mask that is somebody else's is not meant.
        """
        own = [c for c in self.clicks if c.part == label]
        corrects_memory = not any(c.is_positive for c in own)
        for masks in (self.accepted, self.recent if corrects_memory else ()):
            same = [m for m in masks if m.label == label and _may_be_of(m, person)]
            inside = next((m for m in same if m.holds(own[-1])), None)
            if inside is not None:
                return inside
            near = [(_distance(m.packed, own[-1]), m) for m in same]
            distance, mask = min(near, key=lambda pair: pair[0], default=(np.inf, None))
            if distance <= _NEAR:
                return mask
        return None

    def refinable(self, label: str) -> list[str]:
        """Returns the other labels whose only mask was made by clicks."""
        labels = [m.label for m in self.accepted]
        return [
            m.label
            for m in self.accepted
            if m.clicks and not m.is_box and m.label != label and labels.count(m.label) == 1
        ]

    def mask_prompts(self, label: str, corrected: AcceptedMask | None) -> dict[str, NDArray[np.bool_]]:
        """Returns the mask prompts (H, W), one a label: the corrected mask, and the accepted masks of other labels.

        Masks whose clicks are known are left out: the network sees the clicks instead.
        """
        prompts: dict[str, NDArray[np.bool_]] = {}
        if corrected is not None and not (corrected.from_prediction or corrected.clicks or corrected.is_box):
            prompts[label] = corrected.mask
        for accepted in self.accepted:
            if accepted.from_prediction or accepted.clicks or accepted.is_box or accepted.label == label:
                continue
            if accepted.label not in prompts:
                prompts[accepted.label] = np.zeros(accepted.pixels.shape, np.bool_)
            accepted.add_to(prompts[accepted.label])
        return prompts

    def is_clicked(self, mask: AcceptedMask, label: str) -> bool:
        """Whether a positive click of this label lies in a mask."""
        return any(c.part == label and c.is_positive and mask.holds(c) for c in self.clicks)


def _may_be_of(mask: AcceptedMask, person: int | None) -> bool:
    return None in (person, mask.person) or mask.person == person


def _distance(mask: PackedMask, click: Click) -> float:
    """Distance of a click to a mask without it, as a share of the longer side of its box; infinite if not near."""
    if mask.is_empty:
        return float("inf")
    box, (row, column) = mask.box, click.pixel(*mask.shape)
    longer = max(box.width, box.height)
    down = max(box.top - row, row - box.bottom + 1, 0)
    right = max(box.left - column, column - box.right + 1, 0)
    if float(np.sqrt(down**2 + right**2) / longer) > _NEAR:
        return float("inf")  # its box is too far: its pixels need no look
    rows, columns = np.nonzero(mask.inside())
    squared = (rows + box.top - row) ** 2 + (columns + box.left - column) ** 2
    return float(np.sqrt(squared.min()) / longer)
