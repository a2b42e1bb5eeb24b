"""A project's label config: which controls are clicked and painted with, and which part each label means."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from ihp_backend.label_studio.image_address import has_variable
from ihp_backend.label_studio.mask_values import BITMASK, BRUSH, MASKS
from ihp_backend.parts import SCHEMAS, Schema

logger = logging.getLogger(__name__)

_FIX = """\
A config that works:
<View>
  <Image name="image" value="$image"/>
  <KeyPointLabels name="click" toName="image" smart="true"><Label value="Face"/></KeyPointLabels>
  <BrushLabels name="mask" toName="image" smart="false"><Label value="Face"/></BrushLabels>
</View>"""
_MAX_LENGTH = 1_000_000
_MAX_DEPTH = 100
_MASKS = {"BrushLabels": BRUSH, "BitmaskLabels": BITMASK}
_TAGS = {name.lower(): name for name in ("Image", "KeyPointLabels", *_MASKS, "Label", "Repeater")}
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


class LabelConfigError(ValueError):
    """The project's label config cannot be worked with; the message shows the fix."""


@dataclass(frozen=True)
class LabelConfig:
    """What the backend needs of a label config, as one keypoint control sees it.

    A config may have several: of the same photo or of others, each with a brush of its own. See ``clicked_with``.

    Attributes:
        image: Name of the image, the ``to_name`` of regions.
        value: Where a task's data has the image's address: ``$image``, ``$photos[0]``, see ``image_address``.
        keypoint: Name of the keypoint control.
        brush: Name of the brush control that most of its labels are painted with.
        labels: Labels that are painted on the image, in their order.
        predicted_values: For each label the names in its attribute ``predicted_values``.
        suggest: After a click answer the ``clicked`` label, or ``all`` that are seen and not accepted yet.
        refine: A click refines the mask of the ``clicked`` label, or ``all`` masks that clicks made.
        people: A click means ``one`` person, or ``everyone`` in the photo.
        overlap: Whether a new mask may run over accepted ones: ``no`` or ``yes``.
        meanings: What labels mean that the label set does not know is ``learnt`` from accepted masks, or only as
            ``told`` by ``predicted_values``.
        train_after: Train after so many new or changed annotations, 0: when asked only; ``None``: see the settings.
        smart_only: Whether the keypoint control makes points for the backend alone: ``smartOnly="true"``.
        schema: Name of the schema whose weights answer; empty: the one that knows most labels, see ``schema_choice``.
        brushes: For each label the brush control that it is painted with; none: ``brush`` for all.
        trained_brushes: All brush controls of the image that clicks are answered with; none: ``brush``.
        bitmasks: Those of them that make bitmasks, ``<BitmaskLabels>``.
        others: The config as its other keypoint controls see it.
        faults: Why some clicks cannot be answered, each with what to do; see ``check``.
    """

    image: str
    value: str
    keypoint: str
    brush: str
    labels: tuple[str, ...]
    predicted_values: tuple[tuple[str, ...], ...]
    suggest: str = OPTIONS["suggest"][0]
    refine: str = OPTIONS["refine"][0]
    people: str = OPTIONS["people"][0]
    overlap: str = OPTIONS["overlap"][0]
    meanings: str = OPTIONS["meanings"][0]
    train_after: int | None = None
    smart_only: bool = False
    schema: str = ""
    brushes: tuple[str, ...] = ()
    trained_brushes: tuple[str, ...] = ()
    bitmasks: frozenset[str] = frozenset()
    others: tuple[LabelConfig, ...] = ()
    faults: tuple[str, ...] = ()

    @staticmethod
    def parse(xml: str) -> LabelConfig:
        """Reads a label config; the same text is read once.

        Raises:
            LabelConfigError: If it is not XML, or has no keypoint and brush labels on one image.
        """
        if not isinstance(xml, str):
            raise LabelConfigError(f"the label config is {type(xml).__name__}; expected XML as text.\n{_FIX}")
        return _parse(xml)

    def check(self) -> LabelConfig:
        """Returns the config if each click that it lets an annotator make can be answered: to ask when it is connected.

        Raises:
            LabelConfigError: If some click cannot; the message names it, with what to do.
        """
        if faults := list(dict.fromkeys(fault for view in (self, *self.others) for fault in view.faults)):
            raise LabelConfigError(f"{'; '.join(faults)}.\n{_FIX}")
        return self

    def clicked_with(self, results: Iterable[Mapping[str, Any]]) -> LabelConfig:
        """Returns the config as the keypoint control sees it that was clicked with; itself if none of its own was.

        Args:
            results: Regions as Label Studio sends them; the newest last.
        """
        names = [r.get("from_name") for r in results if r.get("type") == "keypointlabels"]
        views = {view.keypoint: view for view in (self, *self.others)}
        found = next((views[name] for name in reversed(names) if isinstance(name, str) and name in views), self)
        return replace(found, others=tuple(view for view in views.values() if view is not found))

    def takes_click(self, keypoint: str, label: str) -> bool:
        """Whether a click with another keypoint control means a mask that is painted as this one would."""
        views = (v for v in self.others if v.keypoint == keypoint and v.image == self.image and label in v.labels)
        return any(label in self.labels and view.brush_of(label) == self.brush_of(label) for view in views)

    def brush_of(self, label: str) -> str:
        """Returns the name of the brush control that a label is painted with."""
        return self.brushes[self.labels.index(label)] if self.brushes and label in self.labels else self.brush

    def mask_type(self, label: str) -> str:
        """Returns the type of the regions that a label is painted with, in ``mask_values.MASKS``."""
        return BITMASK if self.brush_of(label) in self.bitmasks else BRUSH

    def is_on_image(self, region: Mapping[str, Any]) -> bool:
        """Whether a region lies on this image: on no other one of the task, and on no further page of a list."""
        return (region.get("to_name") or self.image) == self.image and region.get("item_index") in (None, 0)

    def is_painted(self, region: Mapping[str, Any]) -> bool:
        """Whether a region is a mask of this image, of a brush control that clicks are answered with.

        An accepted suggestion is saved twice, as a mask and as ``keypointlabels``: the first is the mask.
        """
        names = self.trained_brushes or (self.brush,)
        is_ours = region.get("type") in MASKS and (region.get("from_name") or self.brush) in names
        return is_ours and self.is_on_image(region)

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
        parser = XMLParser(target=_ShallowTree(), forbid_dtd=True)
        parser.feed(xml)
        root: Element = parser.close()
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise LabelConfigError(f"the label config is not XML that can be read ({error}).\n{_FIX}") from error
    for tag in root.iter():  # Label Studio takes them in any letters
        tag.tag = _TAGS.get(str(tag.tag).lower(), tag.tag)
    _refuse_pages(root)
    images = {tag.get("name"): tag for tag in root.iter("Image")}
    keypoints = _controls(root, "KeyPointLabels", images)
    brushes = [tag for tag in root.iter() if tag.tag in _MASKS and tag.get("name") and tag.get("toName") in images]
    keypoints.sort(key=_is_plain)  # the smart ones first
    on_one_image = [k for k in keypoints if any(b.get("toName") == k.get("toName") for b in brushes)]
    if not on_one_image:
        raise LabelConfigError(f"{_what_is_missing(images, keypoints, brushes)}.\n{_FIX}")
    fitting = [k for k in on_one_image if any(_share_a_label(k, b) for b in brushes)]
    if not fitting:
        raise LabelConfigError(f"{_what_does_not_fit(on_one_image[0], brushes)}.\n{_FIX}")
    first, *others = (_view(k, keypoints, brushes, images) for k in fitting)
    asked = dict.fromkeys(view.schema for view in (first, *others) if view.schema)
    if len(asked) > 1:
        raise LabelConfigError(
            f"the keypoint controls ask for {' and '.join(asked)} by {_SCHEMA}; expected one label set for a project"
        )
    faults = [
        f for k in on_one_image if k not in fitting and not _is_plain(k) for f in (_what_does_not_fit(k, brushes),)
    ]
    if all(map(_is_plain, keypoints)):
        faults.append(
            f'<KeyPointLabels name="{first.keypoint}"> has smart="false", so that Label Studio sends no click; '
            'expected smart="true"'
        )
    return replace(first, others=tuple(others), faults=(*first.faults, *faults))


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


def _view(
    keypoint: Element, keypoints: Sequence[Element], brushes: Sequence[Element], images: Mapping[str | None, Element]
) -> LabelConfig:
    """The config as one keypoint control sees it."""
    image = images[keypoint.get("toName")]
    value = image.get("value", "")
    if not has_variable(value):
        raise LabelConfigError(
            f'<Image name="{image.get("name")}"> has value="{value}"; expected the key of the task\'s data after a '
            f"dollar sign.\n{_FIX}"
        )
    clicked = [k for k in keypoints if k.get("toName") == image.get("name")]
    painted = [b for b in brushes if any(_share_a_label(k, b) for k in clicked)]
    own = _brush_of(keypoint, clicked, painted)
    tags: dict[str, tuple[Element, str]] = {}
    for brush in (own, *(b for b in painted if b is not own)):
        for tag in brush.iter("Label"):
            if tag.get("value"):
                tags.setdefault(_name(tag), (tag, brush.get("name", "")))
    order = [name for brush in painted for name in _names(brush)]
    tags = {name: tags[name] for name in dict.fromkeys(order)}
    options = {option: choices[0] for option, choices in OPTIONS.items()} | _options(keypoint)
    missing = [] if _is_plain(keypoint) else [name for name in _names(keypoint) if name not in tags]
    return LabelConfig(
        image=image.get("name", ""),
        value=value,
        keypoint=keypoint.get("name", ""),
        brush=own.get("name", ""),
        labels=tuple(tags),
        predicted_values=_predicted_values([tag for tag, _ in tags.values()], keypoint),
        train_after=_train_after(keypoint),
        smart_only=(keypoint.get("smartOnly") or keypoint.get("smartonly") or "").strip().lower() == "true",
        schema=_schema(keypoint),
        brushes=tuple(brush for _, brush in tags.values()),
        trained_brushes=tuple(b.get("name", "") for b in painted),
        bitmasks=frozenset(b.get("name", "") for b in painted if _MASKS[str(b.tag)] == BITMASK),
        faults=(_what_lacks(keypoint, missing, own),) if missing else (),
        suggest=options["suggest"],
        refine=options["refine"],
        people=options["people"],
        overlap=options["overlap"],
        meanings=options["meanings"],
    )


def _brush_of(keypoint: Element, clicked: Sequence[Element], painted: Sequence[Element]) -> Element:
    """The brush with most of a control's labels, and fewest others. Of several, the first twin has the first one."""

    def differences(brush: Element) -> tuple[int, int]:
        own, its = set(_names(keypoint)), set(_names(brush))
        return len(own - its), len(its - own)

    best = min(map(differences, painted))
    brushes = [b for b in painted if differences(b) == best]
    twins = [k for k in clicked if set(_names(k)) == set(_names(keypoint))]
    return brushes[min(twins.index(keypoint), len(brushes) - 1)]


def _refuse_pages(root: Element) -> None:
    """Raises for configs that show several photos one after the other: their regions would be mixed up."""
    for tag in root.iter("Image"):
        if tag.get("valueList") or tag.get("valuelist"):
            raise LabelConfigError(
                f'<Image name="{tag.get("name")}"> has valueList, a task with several pages, which this backend '
                f'does not work with; expected value="$image" and one task for each photo.\n{_FIX}'
            )
    for repeater in root.iter("Repeater"):
        if next(repeater.iter("Image"), None) is not None:
            raise LabelConfigError(
                "the label config has an <Image> inside of <Repeater>, which this backend does not work with; expected "
                f"one <Image> and one task for each photo.\n{_FIX}"
            )


def _names(control: Element) -> list[str]:
    """The labels of a control."""
    return [_name(tag) for tag in control.iter("Label") if tag.get("value")]


def _share_a_label(keypoint: Element, brush: Element) -> bool:
    """Whether a click of a keypoint control can be answered with a region of a brush control."""
    return keypoint.get("toName") == brush.get("toName") and not set(_names(keypoint)).isdisjoint(_names(brush))


def _is_plain(keypoint: Element) -> bool:
    """Whether a control's clicks are not sent to any backend."""
    return keypoint.get("smart", "true").strip().lower() == "false"


def _what_lacks(keypoint: Element, missing: Sequence[str], brush: Element) -> str:
    return (
        f'<KeyPointLabels name="{keypoint.get("name")}"> has the labels {", ".join(map(repr, missing)):.500}, which '
        f'<{brush.tag} name="{brush.get("name")}"> lacks (it has {", ".join(_names(brush)):.500}), so that no click of '
        "them can be answered: give both the same labels, in the same letters and with the same aliases"
    )


def _what_does_not_fit(keypoint: Element, brushes: Sequence[Element]) -> str:
    brush = next(b for b in brushes if b.get("toName") == keypoint.get("toName"))
    if not _names(brush):
        return f'<{brush.tag} name="{brush.get("name")}"> has no <Label value="...">'
    if not _names(keypoint):
        return f'<KeyPointLabels name="{keypoint.get("name")}"> has no <Label value="...">'
    return _what_lacks(keypoint, _names(keypoint), brush)


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
        if not attribute.startswith("ihp_") or attribute in (_TRAIN_AFTER, _SCHEMA):
            continue
        if attribute not in known:
            expected = ", ".join([*known, _TRAIN_AFTER, _SCHEMA])
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


def _schema(keypoint: Element) -> str:
    value = keypoint.get(_SCHEMA)
    if value is None:
        return ""
    if value not in SCHEMAS:
        raise LabelConfigError(
            f'<KeyPointLabels> has {_SCHEMA}="{value}", which is no label set; expected {" or ".join(SCHEMAS)}'
        )
    return value


def _controls(root: Element, name: str, images: dict[str | None, Element]) -> list[Element]:
    return [tag for tag in root.iter(name) if tag.get("name") and tag.get("toName") in images]


def _what_is_missing(images: dict[str | None, Element], keypoints: list[Element], brushes: list[Element]) -> str:
    if not images:
        return "the label config has no <Image>"
    names = ", ".join(repr(name) for name in images)
    if not keypoints:
        return f"the label config has no <KeyPointLabels> to click with on the image {names}"
    if not brushes:
        return f"the label config has no <BrushLabels> or <BitmaskLabels> to paint masks with on the image {names}"
    return (
        f"<KeyPointLabels> is on the image {keypoints[0].get('toName')!r}, <{brushes[0].tag}> on "
        f"{brushes[0].get('toName')!r}; expected both on one image"
    )
