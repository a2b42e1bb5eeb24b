"""A click on one person leaves the others as they were seen without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ihp_backend.inference.people import People
from ihp_backend.inference.postprocess.split_people import DEFAULTS, SplitPeopleOptions
from ihp_backend.inference.prediction import Parse


def keep_unclicked(
    before: Parse, after: Parse, is_masked: NDArray[np.bool_], split: SplitPeopleOptions | None = DEFAULTS
) -> Parse:
    """Gives the people without a prompt back what was predicted of them without prompts.

    The network takes a person who stands beside a clicked one for background.

    Args:
        before: The parse of the same view without prompts.
        after: The parse with them.
        is_masked: (h, w), where the mask prompts are, in stride-2 pixels; their people have a prompt.
        split: How people who touch are told apart; ``None``: they are one.
    """
    people = People.of(before, split)
    prompted = {people.at(c.x, c.y) for c in after.clicks} | set(people.instance_map[is_masked].tolist())
    others = np.isin(people.instance_map, [person for person in people.boxes if person not in prompted])
    return replace(after, logits=np.where(others, before.logits, after.logits)) if others.any() else after
