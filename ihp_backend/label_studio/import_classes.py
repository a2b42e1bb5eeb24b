"""Which label of a project each class of a data set is, by the rule of clicks and training."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import Schema, normalise


@dataclass(frozen=True)
class Matching:
    """The labels of a data set's classes.

    Attributes:
        ids_of: For each label the classes that it means, by id; labels that mean none are left out.
        unmatched: Classes that no label means.
    """

    ids_of: dict[str, tuple[int, ...]]
    unmatched: tuple[str, ...]


def match_classes(config: LabelConfig, schema: Schema, occurring: Collection[int]) -> Matching:
    """Finds the label of each class that occurs, by ``predicted_values``, name or alias.

    Of several labels that mean one class, the one that is called like it is taken, else the one that means fewest
    classes, else the first.

    Args:
        config: The project's label config.
        schema: The classes of the data set.
        occurring: Ids that its label images have; the background's and those of ignored pixels do not matter.
    """
    parts = config.parts(schema)
    chosen: dict[str, list[int]] = {}
    unmatched = []
    for i in sorted(i for i in occurring if 0 < i < len(schema)):
        name = schema.names[i]
        fitting = [label for label in config.labels if name in parts[label]]
        if not fitting:
            unmatched.append(name)
            continue
        best = min(fitting, key=lambda label: (normalise(label) != normalise(name), len(parts[label])))
        chosen.setdefault(best, []).append(i)
    return Matching({label: tuple(ids) for label, ids in chosen.items()}, tuple(unmatched))
