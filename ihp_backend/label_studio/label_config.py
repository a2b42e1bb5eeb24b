"""A project's label config: which controls are clicked and painted with, and which part each label means."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ihp_backend.parts import Schema

logger = logging.getLogger(__name__)

_FIX = """\
A config that works:
<View>
  <Image name="image" value="$image"/>
  <KeyPointLabels name="click" toName="image" smart="true"><Label value="Face"/></KeyPointLabels>
  <BrushLabels name="mask" toName="image" smart="false"><Label value="Face"/></BrushLabels>
</View>"""
_MAX_LENGTH = 1_000_000
OPTIONS = {
    "suggest": ("clicked", "all"),
    "refine": ("clicked", "all"),
    "people": ("one", "everyone"),
    "overlap": ("no", "yes"),
}
"""Our own attributes of <KeyPointLabels>, without their prefix ``ihp_``, and their choices, the default first."""
_TRAIN_AFTER = "ihp_train_after"


class LabelConfigError(ValueError):
    """The project's label config cannot be worked with; the message shows the fix."""


@dataclass(frozen=True)
class LabelConfig:
    """What the backend needs of a label config.

    Attributes:
        image: Name of the image, the ``to_name`` of regions.
        data_key: Key of the image's address in a task's data: ``image`` for ``$image``.
        keypoint: Name of the keypoint control.
        brush: Name of the brush control.
        labels: Labels of the brush control, in their order.
        predicted_values: For each label the names in its attribute ``predicted_values``.
        suggest: After a click answer the ``clicked`` label, or ``all`` that are seen and not accepted yet.
        refine: A click refines the mask of the ``clicked`` label, or ``all`` masks that clicks made.
        people: A click means ``one`` person, or ``everyone`` in the photo.
        overlap: Whether a new mask may run over accepted ones: ``no`` or ``yes``.
        train_after: Train after so many new or changed annotations, 0: when asked only; ``None``: see the settings.
    """

    image: str
    data_key: str
    keypoint: str
    brush: str
    labels: tuple[str, ...]
    predicted_values: tuple[tuple[str, ...], ...]
    suggest: str = OPTIONS["suggest"][0]
    refine: str = OPTIONS["refine"][0]
    people: str = OPTIONS["people"][0]
    overlap: str = OPTIONS["overlap"][0]
    train_after: int | None = None

    @staticmethod
    def parse(xml: str) -> LabelConfig:
        """Reads a label config; the same text is read once.

        Raises:
            LabelConfigError: If it is not XML, or has no keypoint and brush labels on one image.
        """
        if not isinstance(xml, str):
            raise LabelConfigError(f"the label config is {type(xml).__name__}; expected XML as text.\n{_FIX}")
        return _parse(xml)

    def parts(self, schema: Schema) -> dict[str, tuple[str, ...]]:
        """Returns, for each label, the names of the schema's parts that it stands for.

        ``predicted_values`` decides (several names mean their union), else the label's own name without regard to
        case, hyphens, underscores and spaces. No part at all: the schema does not know the label.
        """
        found = {}
        for label, values in zip(self.labels, self.predicted_values, strict=True):
            ids = _known(values, schema) or _known([label], schema)
            if values and not ids:
                logger.warning("label %r: predicted_values has no part of schema %s", label, schema.name)
            found[label] = tuple(schema.names[i] for i in ids)
        return found


def _known(names: Iterable[str], schema: Schema) -> list[int]:
    ids = (schema.find(name) for name in names)
    return list(dict.fromkeys(i for i in ids if i is not None))


@lru_cache(maxsize=64)
def _parse(xml: str) -> LabelConfig:
    if len(xml) > _MAX_LENGTH:
        raise LabelConfigError(f"the label config has {len(xml)} characters; expected at most {_MAX_LENGTH}")
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise LabelConfigError(f"the label config is not XML that can be read ({error}).\n{_FIX}") from error
    images = {tag.get("name"): tag for tag in root.iter("Image")}
    keypoints = _controls(root, "KeyPointLabels", images)
    brushes = _controls(root, "BrushLabels", images)
    keypoints.sort(key=lambda tag: tag.get("smart", "true").lower() == "false")  # the smart one first
    pair = next(((k, b) for k in keypoints for b in brushes if k.get("toName") == b.get("toName")), None)
    if pair is None:
        raise LabelConfigError(f"{_what_is_missing(images, keypoints, brushes)}.\n{_FIX}")
    keypoint, brush = pair
    image = images[brush.get("toName")]
    value = image.get("value", "")
    if not value.startswith("$") or len(value) < 2:
        raise LabelConfigError(
            f'<Image name="{image.get("name")}"> has value="{value}"; expected the key of the task\'s data after a '
            f"dollar sign.\n{_FIX}"
        )
    labels = [tag for tag in brush.iter("Label") if tag.get("value")]
    if not labels:
        raise LabelConfigError(f'<BrushLabels name="{brush.get("name")}"> has no <Label value="...">.\n{_FIX}')
    return LabelConfig(
        image=image.get("name", ""),
        data_key=value[1:],
        keypoint=keypoint.get("name", ""),
        brush=brush.get("name", ""),
        labels=tuple(_name(tag) for tag in labels),
        predicted_values=_predicted_values(labels, keypoint),
        train_after=_train_after(keypoint),
        **_options(keypoint),
    )


def _name(label: Element) -> str:
    """What Label Studio calls a label in regions: its alias, if it has one."""
    return label.get("alias", "") or label.get("value", "")


def _predicted_values(labels: Iterable[Element], keypoint: Element) -> tuple[tuple[str, ...], ...]:
    """The parts that each label names, in the brush or else in the keypoint control; an alias means its value."""
    of_twins: dict[str, str] = {}
    for twin in keypoint.iter("Label"):
        if given := twin.get("predicted_values"):
            of_twins.setdefault(_name(twin), given)
    found = []
    for label in labels:
        given = label.get("predicted_values") or of_twins.get(_name(label), "")
        named = tuple(name.strip() for name in given.split(",") if name.strip())
        found.append(named or ((label.get("value", ""),) if label.get("alias") else ()))
    return tuple(found)


def _options(keypoint: Element) -> dict[str, str]:
    known = {f"ihp_{name}": (name, choices) for name, choices in OPTIONS.items()}
    found = {}
    for attribute, value in keypoint.attrib.items():
        if not attribute.startswith("ihp_") or attribute == _TRAIN_AFTER:
            continue
        if attribute not in known:
            expected = ", ".join([*known, _TRAIN_AFTER])
            raise LabelConfigError(f"<KeyPointLabels> has the attribute {attribute!r}; expected {expected}")
        name, choices = known[attribute]
        if value not in choices:
            raise LabelConfigError(f'<KeyPointLabels> has {attribute}="{value}"; expected {" or ".join(choices)}')
        found[name] = value
    return found


def _train_after(keypoint: Element) -> int | None:
    value = keypoint.get(_TRAIN_AFTER)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,6}", value):
        raise LabelConfigError(
            f'<KeyPointLabels> has {_TRAIN_AFTER}="{value}"; expected a whole number of annotations, 0 for none'
        )
    return int(value)


def _controls(root: Element, name: str, images: dict[str | None, Element]) -> list[Element]:
    return [tag for tag in root.iter(name) if tag.get("name") and tag.get("toName") in images]


def _what_is_missing(images: dict[str | None, Element], keypoints: list[Element], brushes: list[Element]) -> str:
    if not images:
        return "the label config has no <Image>"
    names = ", ".join(repr(name) for name in images)
    if not keypoints:
        return f"the label config has no <KeyPointLabels> to click with on the image {names}"
    if not brushes:
        return f"the label config has no <BrushLabels> to paint masks with on the image {names}"
    return (
        f"<KeyPointLabels> is on the image {keypoints[0].get('toName')!r}, <BrushLabels> on "
        f"{brushes[0].get('toName')!r}; expected both on one image"
    )
