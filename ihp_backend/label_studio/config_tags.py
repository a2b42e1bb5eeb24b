"""The tags of a label config: read safely, with their labels, our own attributes, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from ihp_backend.label_studio.mask_values import BITMASK, BRUSH, POLYGON, RECTANGLE, TOLERANCE
from ihp_backend.parts import SCHEMAS

FIX = """\
A config that works:
<View>
  <Image name="image" value="$image"/>
  <KeyPointLabels name="click" toName="image" smart="true"><Label value="Face"/></KeyPointLabels>
  <BrushLabels name="mask" toName="image" smart="false"><Label value="Face"/></BrushLabels>
</View>"""
KINDS = {"BrushLabels": BRUSH, "BitmaskLabels": BITMASK, "PolygonLabels": POLYGON, "RectangleLabels": RECTANGLE}
"""Controls that clicks are answered with, and the type of their regions. If several have the same
labels, the kind that is earlier here answers."""
OPTIONS = {
    "suggest": ("clicked", "all"),
    "refine": ("clicked", "all"),
    "people": ("one", "everyone"),
    "overlap": ("no", "yes"),
    "meanings": ("learnt", "told"),
}
"""Our own attributes of <KeyPointLabels>, without their prefix ``ihp_``, and their choices, the default first."""
_TRAIN_AFTER = "ihp_train_after"
_SCHEMA = "ihp_schema"
_TOLERANCE = "ihp_tolerance"
_OTHERS = (_TRAIN_AFTER, _SCHEMA, _TOLERANCE)
_MAX_LENGTH = 1_000_000
_MAX_DEPTH = 100
_MOST_TOLERANCE = 100
_TAGS = {name.lower(): name for name in ("Image", "KeyPointLabels", *KINDS, "Label", "Repeater")}


class LabelConfigError(ValueError):
    """The project's label config cannot be worked with; the message shows the fix."""


def read_tags(xml: str) -> Element:
    """Returns the outermost tag of a label config; the names that matter are in Label Studio's own letters.

    Raises:
        LabelConfigError: If it is no XML that can be read.
    """
    if len(xml) > _MAX_LENGTH:
        raise LabelConfigError(f"the label config has {len(xml)} characters; expected at most {_MAX_LENGTH}")
    try:
        parser = XMLParser(target=_ShallowTree(), forbid_dtd=True)
        parser.feed(xml)
        root: Element = parser.close()
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise LabelConfigError(f"the label config is not XML that can be read ({error}).\n{FIX}") from error
    for tag in root.iter():  # Label Studio takes them in any letters
        tag.tag = _TAGS.get(str(tag.tag).lower(), tag.tag)
    return root


class _ShallowTree(TreeBuilder):
    """Refuses a config that is nested deeper than anybody's: the ML SDK reads it by recursion."""

    _depth = 0

    def start(self, tag: str, attrs: dict[str, str]) -> Element:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise LabelConfigError(f"the label config is nested more than {_MAX_DEPTH} deep")
        return super().start(tag, attrs)

    def end(self, tag: str) -> Element:
        self._depth -= 1
        return super().end(tag)


def names_of(control: Element) -> list[str]:
    """The labels of a control."""
    return [name_of(tag) for tag in control.iter("Label") if tag.get("value")]


def share_a_label(keypoint: Element, brush: Element) -> bool:
    """Whether a click of a keypoint control can be answered with a region of a brush control."""
    return keypoint.get("toName") == brush.get("toName") and not set(names_of(keypoint)).isdisjoint(names_of(brush))


def is_plain(keypoint: Element) -> bool:
    """Whether a control's clicks are not sent to any backend."""
    return keypoint.get("smart", "true").strip().lower() == "false"


def what_lacks(keypoint: Element, missing: Sequence[str], brush: Element) -> str:
    """Says that a keypoint control has labels that the control which paints for it lacks."""
    return (
        f'<KeyPointLabels name="{keypoint.get("name")}"> has the labels {", ".join(map(repr, missing)):.500}, which '
        f'<{brush.tag} name="{brush.get("name")}"> lacks (it has {", ".join(names_of(brush)):.500}), so that no click '
        "of them can be answered: give both the same labels, in the same letters and with the same aliases"
    )


def what_does_not_fit(keypoint: Element, brushes: Sequence[Element]) -> str:
    """Says why no control on a keypoint control's image has one of its labels."""
    brush = next(b for b in brushes if b.get("toName") == keypoint.get("toName"))
    if not names_of(brush):
        return f'<{brush.tag} name="{brush.get("name")}"> has no <Label value="...">'
    if not names_of(keypoint):
        return f'<KeyPointLabels name="{keypoint.get("name")}"> has no <Label value="...">'
    return what_lacks(keypoint, names_of(keypoint), brush)


def name_of(label: Element) -> str:
    """What Label Studio calls a label in regions: its alias, if it has one."""
    return label.get("alias", "") or label.get("value", "")


def predicted_values_of(labels: Iterable[Element], keypoint: Element) -> tuple[tuple[str, ...], ...]:
    """The parts that each label names, in the brush or else in the keypoint control; an alias means its value."""
    of_keypoint: dict[str, str] = {}
    for label in keypoint.iter("Label"):
        if given := label.get("predicted_values"):
            of_keypoint.setdefault(name_of(label), given)
    found = []
    for label in labels:
        given = label.get("predicted_values") or of_keypoint.get(name_of(label), "")
        named = tuple(name.strip() for name in given.split(",") if name.strip())
        found.append(named or ((label.get("value", ""),) if label.get("alias") else ()))
    return tuple(found)


def options_of(keypoint: Element) -> dict[str, str]:
    """Returns those of ``OPTIONS`` that a keypoint control chooses.

    Raises:
        LabelConfigError: If an attribute of ours is unknown, or its value is not among the choices.
    """
    known = {f"ihp_{name}": (name, choices) for name, choices in OPTIONS.items()}
    found = {}
    for attribute, value in keypoint.attrib.items():
        if not attribute.startswith("ihp_") or attribute in _OTHERS:
            continue
        if attribute not in known:
            expected = ", ".join([*known, *_OTHERS])
            raise LabelConfigError(f"<KeyPointLabels> has the attribute {attribute!r}; expected {expected}")
        name, choices = known[attribute]
        if value not in choices:
            raise LabelConfigError(f'<KeyPointLabels> has {attribute}="{value}"; expected {" or ".join(choices)}')
        found[name] = value
    return found


def train_after_of(keypoint: Element) -> int | None:
    """Returns after how many annotations a project trains; ``None`` if the config does not say.

    Raises:
        LabelConfigError: If it is no whole number.
    """
    value = keypoint.get(_TRAIN_AFTER)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,6}", value):
        raise LabelConfigError(
            f'<KeyPointLabels> has {_TRAIN_AFTER}="{value}"; expected a whole number of annotations, 0 for none'
        )
    return int(value)


def tolerance_of(keypoint: Element) -> float:
    """Returns by how many pixels the outline of a polygon may be off.

    Raises:
        LabelConfigError: If it is no number from 0 to 100.
    """
    value = keypoint.get(_TOLERANCE)
    if value is None:
        return TOLERANCE
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", value) or float(value) > _MOST_TOLERANCE:
        raise LabelConfigError(
            f'<KeyPointLabels> has {_TOLERANCE}="{value}"; expected pixels, 0 to {_MOST_TOLERANCE}, such as 1.5'
        )
    return float(value)


def schema_of(keypoint: Element) -> str:
    """Returns the label set that a keypoint control asks for; an empty text if it asks for none.

    Raises:
        LabelConfigError: If there is no such label set.
    """
    value = keypoint.get(_SCHEMA)
    if value is None:
        return ""
    if value not in SCHEMAS:
        raise LabelConfigError(
            f'<KeyPointLabels> has {_SCHEMA}="{value}", which is no label set; expected {" or ".join(SCHEMAS)}'
        )
    return value


def what_is_missing(
    images: Mapping[str | None, Element], keypoints: Sequence[Element], brushes: Sequence[Element]
) -> str:
    """Says which of the three tags a label config lacks, or that they are on different images."""
    if not images:
        return "the label config has no <Image>"
    names = ", ".join(repr(name) for name in images)
    if not keypoints:
        return f"the label config has no <KeyPointLabels> to click with on the image {names}"
    if not brushes:
        return (
            "the label config has no <BrushLabels>, <BitmaskLabels>, <PolygonLabels> or <RectangleLabels> to answer "
            f"with on the image {names}"
        )
    return (
        f"<KeyPointLabels> is on the image {keypoints[0].get('toName')!r}, <{brushes[0].tag}> on "
        f"{brushes[0].get('toName')!r}; expected both on one image"
    )
