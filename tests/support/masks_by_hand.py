"""Masks, clicks and states that tests of annotation/ begin with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ihp_backend.annotation.masks import AcceptedMask, TimedClick
from ihp_backend.annotation.recent_answers import RecentAnswers
from ihp_backend.annotation.state import AnnotationState
from ihp_backend.clicks import Click

SHAPE = (60, 80)


FACE = Click(15.0, 15.0, "Face")


def square(top: int, left: int, side: int = 20) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def hair(mask: NDArray[np.bool_] | None = None, region: str = "r1") -> AcceptedMask:
    return AcceptedMask(region, "Hair", square(0, 0) if mask is None else mask)


def recent(
    answers: RecentAnswers,
    *still_open: str,
    task: str = "1 7",
    draft: str = "d",
    drafted: tuple[str, ...] = (),
    clicked: tuple[str, ...] = ("Hair",),
) -> list[AcceptedMask]:
    return answers.recent(task, draft, still_open, drafted, clicked, SHAPE)


def sorted_state(click: Click, drawn: list[AcceptedMask], remembered: list[AcceptedMask]) -> AnnotationState:
    return AnnotationState.of([click], (), drawn, remembered)


def state_of(*accepted: AcceptedMask, clicks: tuple[Click, ...] = (FACE,)) -> AnnotationState:
    return AnnotationState(clicks, (), accepted, ())


OUTSIDE = Click(25.0, 25.0, "Face")


HAIR_CLICK = TimedClick(Click(5.0, 5.0, "Hair"), 1)
