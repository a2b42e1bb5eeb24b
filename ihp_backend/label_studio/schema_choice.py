"""Which schema a project's labels are of: its weights answer the project.

The schema that knows most of the labels wins. ``ihp_schema`` in the label config overrides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import SCHEMAS, Schema, normalise


@dataclass(frozen=True)
class Choice:
    """The schema that answers a label config.

    Attributes:
        wanted: Name of the schema that fits the labels best.
        answering: Name of the schema whose weights answer: ``wanted``, if there are weights of it.
        note: What to tell whoever set the project up; empty if all is well.
    """

    wanted: str
    answering: str
    note: str = ""


def rank_schemas(config: LabelConfig, schemas: Iterable[Schema]) -> list[Schema]:
    """Sorts schemas by how well they fit a label config, the best first.

    The number of labels that a schema tells apart decides (by name, alias or ``predicted_values``), then how many of
    them it knows by their exact name; of those that are equal, the one that comes first in ``schemas``. The labels of
    all keypoint controls count: a project has one schema, whichever control is clicked with.
    """
    return sorted(schemas, key=lambda schema: _fit(config, schema), reverse=True)  # a stable sort


def choose_schema(config: LabelConfig, there: Mapping[str, Schema]) -> Choice:
    """Chooses whose weights answer a label config.

    Args:
        config: The label config.
        there: The parts of the weights there are, by schema; of those that fit equally, the first one answers. At
            least one.
    """
    candidates = {**there, **{name: schema for name, schema in SCHEMAS.items() if name not in there}}
    wanted = asked_schema(config) or rank_schemas(config, candidates.values())[0].name
    if wanted in there:
        return Choice(wanted, wanted)
    answering = rank_schemas(config, there.values())[0].name
    labels = {label for view in (config, *config.others) for label in view.labels}
    note = (
        f"there are no weights of the label set {wanted}: those of {answering} answer instead, which know "
        f"{_fit(config, there[answering])[0]} of the {len(labels)} labels; what the others mean is decided by their "
        f"clicks alone. Put weights of {wanted} into model_weights/{wanted}"
    )
    return Choice(wanted, answering, note)


def asked_schema(config: LabelConfig) -> str:
    """Returns the schema that the label config asks for by ``ihp_schema``; an empty string if it asks for none."""
    return next((view.schema for view in (config, *config.others) if view.schema), "")


@lru_cache(maxsize=256)
def _fit(config: LabelConfig, schema: Schema) -> tuple[int, int]:
    """How many labels a schema tells apart, and how many of them it knows by their exact name.

    Of two labels that mean the same part, such as Face and Skin in Helen, it tells one apart only.
    """
    exact = {normalise(name) for name in schema.names}
    known: dict[str, set[int]] = {}
    by_name = set()
    for view in (config, *config.others):
        for label, values in zip(view.labels, view.predicted_values, strict=True):
            if parts := {i for name in (*values, label) if (i := schema.find(name)) is not None}:
                known.setdefault(label, set()).update(parts)
            if any(normalise(name) in exact for name in values or (label,)):
                by_name.add(label)
    apart: set[int] = set()
    count = 0
    for parts in sorted(known.values(), key=len):
        count += not parts <= apart
        apart |= parts
    return count, len(by_name)
