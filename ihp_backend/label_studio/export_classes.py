"""Which class of a data set each label of a project is, and what is to be known of that before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

from ihp_backend.data.layout_writers import LayoutWriter
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.label_studio.schema_choice import asked_schema, rank_schemas
from ihp_backend.parts import IGNORE, OPEN, SCHEMAS, Schema, normalise


class ExportError(ValueError):
    """A project cannot be exported; the message says why."""


@dataclass(frozen=True)
class Classes:
    """The classes of an export.

    Attributes:
        schema: The classes, by id.
        of_label: The class of each label; ``None`` if it has none.
        notes: What is to be told.
    """

    schema: Schema
    of_label: dict[str, int | None]
    notes: tuple[str, ...] = ()


def classes_of(config: LabelConfig, writer: LayoutWriter) -> Classes:
    """Finds the class of each label: by ``predicted_values``, name or alias, as clicks and training do.

    Args:
        config: The project's label config.
        writer: The layout. One without classes of its own gets those of the label set that the labels are of, if they
            are all of them, else the labels themselves.

    Raises:
        ExportError: If no label has a class, or there are more classes than a label image can hold.
    """
    if writer.schema is None:
        return _own_classes(config)
    schema = writer.schema
    parts = config.parts(schema)
    of_label = {label: schema.names.index(names[0]) if len(names) == 1 else None for label, names in parts.items()}
    if not any(of_label.values()):
        raise ExportError(
            f"none of the labels {', '.join(config.labels):.500} is a class of {schema.name} "
            f"({', '.join(schema.names)}); give a label the attribute predicted_values, or export as folder or coco"
        )
    fate = "what they alone cover is ignored (255)" if writer.has_ignored else "what they alone cover is background"
    notes = []
    if unknown := [label for label, names in parts.items() if not names]:
        notes.append(f"{', '.join(unknown):.500} is no class of {schema.name}: {fate}")
    for label, names in parts.items():
        if len(names) > 1:
            notes.append(f"{label} means {' or '.join(names)}, which {schema.name} tells apart: {fate}")
    if absent := [name for i, name in enumerate(schema.names) if i and i not in of_label.values()]:
        notes.append(f"no label means {', '.join(absent)}: where those are is background")
    return Classes(schema, of_label, tuple(notes))


def _own_classes(config: LabelConfig) -> Classes:
    ranked = rank_schemas(config, SCHEMAS.values())
    schema = SCHEMAS.get(asked_schema(config), ranked[0])
    parts = config.parts(schema)
    named = [schema.names.index(names[0]) for names in parts.values() if len(names) == 1]
    if len(named) == len(parts) and sorted({0, *named}) == list(range(len(schema))):
        return Classes(schema, dict(zip(parts, named, strict=True)))
    own = {normalise(label): label for label in reversed(config.labels)}
    own.pop(normalise(OPEN.names[0]), None)
    if len(own) >= IGNORE:
        raise ExportError(f"the label config has {len(own)} labels; {IGNORE - 1} can be exported at most")
    names = [label for label in config.labels if own.get(normalise(label)) == label]
    ids = {normalise(label): i for i, label in enumerate(names, 1)}
    return Classes(OPEN.extended(names), {label: ids.get(normalise(label), 0) for label in config.labels})
