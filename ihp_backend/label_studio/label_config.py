"""A project's label config: which controls are clicked and painted with, and which part each label means."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from xml.etree.ElementTree import Element

from ihp_backend.label_studio.config_pages import list_of, lists_in, repeat, sizes_in
from ihp_backend.label_studio.config_tags import (
    FIX,
    KINDS,
    OPTIONS,
    is_plain,
    name_of,
    names_of,
    options_of,
    predicted_values_of,
    read_tags,
    schema_of,
    share_a_label,
    tolerance_of,
    train_after_of,
    what_does_not_fit,
    what_is_missing,
    what_lacks,
)
from ihp_backend.label_studio.config_tags import (
    LabelConfigError as LabelConfigError,
)
from ihp_backend.label_studio.image_address import has_variable
from ihp_backend.label_studio.mask_values import BRUSH, OUTPUTS, POLYGON, RECTANGLE, TOLERANCE, label_of
from ihp_backend.parts import Schema

logger = logging.getLogger(__name__)


_MOST_CONTROLS = 600
"""Of clicks and masks, over all photos of a task: each pair of them is looked at."""


@dataclass(frozen=True)
class LabelConfig:
    """What the backend needs of a label config, as one keypoint control sees it.

    A config may have several: of the same photo or of others, each with a brush of its own. See ``clicked_with``.

    Attributes:
        image: Name of the image, the ``to_name`` of regions.
        value: Where a task's data has the image's address: ``$image``, ``$photos[0]``, see ``image_address``.
        item: Which page of the image's list it is, the ``item_index`` of regions; ``None``: the image has no list.
        keypoint: Name of the keypoint control.
        brush: Name of the control that most of its labels are painted with: of brush, bitmasks, polygons or rectangles.
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
        kinds: The type of the regions that each of them makes, in ``mask_values.OUTPUTS``; none: brush regions.
        tolerance: By so many pixels of the photo may the outline of a polygon be off.
        prompt_boxes: Rectangle controls of the image with which a box is drawn around a part, see ``is_prompt_box``.
        others: The config as its other keypoint controls see it.
        faults: Why some clicks cannot be answered, each with what to do; see ``check``.
        lists: Where a task's data has lists of photos that are shown page by page. A config that no task has filled in
            has the first page of each; see ``of_task``.
        xml: The config's text.
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
    kinds: tuple[tuple[str, str], ...] = ()
    tolerance: float = TOLERANCE
    prompt_boxes: tuple[str, ...] = ()
    others: tuple[LabelConfig, ...] = ()
    faults: tuple[str, ...] = ()
    item: int | None = None
    lists: tuple[str, ...] = ()
    xml: str = field(default="", repr=False)

    @staticmethod
    def parse(xml: str) -> LabelConfig:
        """Reads a label config; the same text is read once.

        Raises:
            LabelConfigError: If it is not XML, or has no keypoint and brush labels on one image.
        """
        if not isinstance(xml, str):
            raise LabelConfigError(f"the label config is {type(xml).__name__}; expected XML as text.\n{FIX}")
        return _parse(xml)

    def of_task(self, task: Mapping[str, Any]) -> LabelConfig:
        """Returns the config with all pages that a task has; itself if tasks have none.

        Raises:
            ImageError: If the task's data has no list of photos where the config expects one.
        """
        if not self.lists:
            return self
        data = task.get("data")
        return _parse(self.xml, tuple(sizes_in(self.lists, data if isinstance(data, Mapping) else {}).items()))

    def photos(self) -> list[LabelConfig]:
        """Returns the config once for each photo of a task, as the first keypoint control there sees it."""
        views = (self, *self.others)
        first: dict[object, LabelConfig] = {}
        for view in views:
            first.setdefault((view.image, view.item), view)
        return [replace(view, others=tuple(v for v in views if v is not view)) for view in first.values()]

    def check(self) -> LabelConfig:
        """Returns the config if each click that it lets an annotator make can be answered: to ask when it is connected.

        Raises:
            LabelConfigError: If some click cannot; the message names it, with what to do.
        """
        if faults := list(dict.fromkeys(fault for view in (self, *self.others) for fault in view.faults)):
            raise LabelConfigError(f"{'; '.join(faults)}.\n{FIX}")
        return self

    def with_all_labels(self) -> LabelConfig:
        """Returns the config with the labels of all of a task's photos: to ask what they mean, not to read regions."""
        values: dict[str, tuple[str, ...]] = {}
        brushes: dict[str, str] = {}
        for view in (self, *self.others):
            for label, named in zip(view.labels, view.predicted_values, strict=True):
                values.setdefault(label, named)
                brushes.setdefault(label, view.brush_of(label))
        return replace(
            self, labels=tuple(values), predicted_values=tuple(values.values()), brushes=tuple(brushes.values())
        )

    def clicked_with(self, results: Iterable[Mapping[str, Any]]) -> LabelConfig:
        """Returns the config as the keypoint control sees it that was clicked with; itself if none of its own was.

        Args:
            results: Regions as Label Studio sends them; the newest last.
        """
        views = {(view.keypoint, view.item): view for view in (self, *self.others)}
        newest_first = reversed([*results])
        found = next((v for r in newest_first for v in views.values() if v.is_click(r) or v.is_prompt_box(r)), self)
        return replace(found, others=tuple(view for view in views.values() if view is not found))

    def is_click(self, region: Mapping[str, Any]) -> bool:
        """Whether a region is of the keypoint control."""
        is_ours = region.get("type") == "keypointlabels" and region.get("from_name") == self.keypoint
        return is_ours and self._is_on_page(region)

    def takes_click(self, keypoint: str, label: str) -> bool:
        """Whether a click with another keypoint control means a mask that is painted as this one would."""
        photo = (self.image, self.item)
        views = (v for v in self.others if v.keypoint == keypoint and (v.image, v.item) == photo and label in v.labels)
        return any(label in self.labels and view.brush_of(label) == self.brush_of(label) for view in views)

    def brush_of(self, label: str) -> str:
        """Returns the name of the brush control that a label is painted with."""
        return self.brushes[self.labels.index(label)] if self.brushes and label in self.labels else self.brush

    def mask_type(self, label: str) -> str:
        """Returns the type of the regions that a label is painted with, in ``mask_values.OUTPUTS``."""
        return dict(self.kinds).get(self.brush_of(label), BRUSH)

    def is_on_image(self, region: Mapping[str, Any]) -> bool:
        """Whether a region lies on this image: on no other one of the task, and on no other page of its list."""
        return (region.get("to_name") or self.image) == self.image and self._is_on_page(region)

    def _is_on_page(self, region: Mapping[str, Any]) -> bool:
        return (region.get("item_index") or 0) == (self.item or 0)

    def is_painted(self, region: Mapping[str, Any]) -> bool:
        """Whether a region of this image is of a control that clicks are answered with: a mask, or a rectangle.

        An accepted suggestion is saved twice, as a mask and as ``keypointlabels``: the first is the mask.
        """
        names = self.trained_brushes or (self.brush,)
        is_ours = region.get("type") in OUTPUTS and (region.get("from_name") or self.brush) in names
        return is_ours and self.is_on_image(region)

    def is_prompt_box(self, region: Mapping[str, Any]) -> bool:
        """Whether a region is a box that asks for its part: of a smart control that does not paint its label."""
        label = label_of(region)
        return (
            region.get("type") == RECTANGLE
            and region.get("from_name") in self.prompt_boxes
            and label in self.labels
            and self.brush_of(label) != region.get("from_name")
            and self.is_on_image(region)
        )

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
def _parse(xml: str, pages: tuple[tuple[str, int], ...] = ()) -> LabelConfig:
    """Reads a label config with so many pages of each list; with one of those that are not named."""
    root = read_tags(xml)
    lists = lists_in(root)
    sizes = dict.fromkeys(lists, 1) | dict(pages)
    repeat(root, sizes)
    images = {tag.get("name"): tag for tag in root.iter("Image")}
    order = {tag: place for place, tag in enumerate(root.iter())}
    keypoints = _controls(root, "KeyPointLabels", images)
    brushes = [tag for name in KINDS for tag in _controls(root, name, images)]
    if len(keypoints) + len(brushes) > _MOST_CONTROLS:
        raise LabelConfigError(
            f"the label config has {len(keypoints) + len(brushes)} controls of clicks and masks; expected at most "
            f"{_MOST_CONTROLS}"
        )
    brushes.sort(key=lambda tag: (_rank(tag), order[tag]))
    keypoints.sort(key=is_plain)  # the smart ones first
    on_one_image = [k for k in keypoints if any(b.get("toName") == k.get("toName") for b in brushes)]
    if not on_one_image:
        raise LabelConfigError(f"{what_is_missing(images, keypoints, brushes)}.\n{FIX}")
    fitting = [k for k in on_one_image if any(share_a_label(k, b) for b in brushes)]
    if not fitting:
        raise LabelConfigError(f"{what_does_not_fit(on_one_image[0], brushes)}.\n{FIX}")
    first, *others = (
        replace(view, lists=lists, xml=xml if lists else "")
        for k in fitting
        for view in _pages(_view(k, keypoints, brushes, images), list_of(images[k.get("toName")]), sizes)
    )
    asked = dict.fromkeys(view.schema for view in (first, *others) if view.schema)
    if len(asked) > 1:
        raise LabelConfigError(
            f"the keypoint controls ask for {' and '.join(asked)} by ihp_schema; expected one label set for a project"
        )
    faults = [f for k in on_one_image if k not in fitting and not is_plain(k) for f in (what_does_not_fit(k, brushes),)]
    if all(map(is_plain, keypoints)):
        faults.append(
            f'<KeyPointLabels name="{first.keypoint}"> has smart="false", so that Label Studio sends no click; '
            'expected smart="true"'
        )
    return replace(first, others=tuple(others), faults=(*first.faults, *faults))


def _pages(view: LabelConfig, photos: str | None, sizes: Mapping[str, int]) -> list[LabelConfig]:
    """The view of each page of an image; the only one of an image without a list."""
    if photos is None:
        return [view]
    return [replace(view, value=f"{photos}[{item}]", item=item) for item in range(sizes[photos])]


def _view(
    keypoint: Element, keypoints: Sequence[Element], brushes: Sequence[Element], images: Mapping[str | None, Element]
) -> LabelConfig:
    """The config as one keypoint control sees it."""
    image = images[keypoint.get("toName")]
    value = list_of(image) or image.get("value") or ""
    if not has_variable(value):
        raise LabelConfigError(
            f'<Image name="{image.get("name")}"> has value="{value}"; expected the key of the task\'s data after a '
            f"dollar sign.\n{FIX}"
        )
    clicked = [k for k in keypoints if k.get("toName") == image.get("name")]
    painted = [b for b in brushes if any(share_a_label(k, b) for k in clicked)]
    own = _brush_of(keypoint, clicked, painted)
    tags: dict[str, tuple[Element, str]] = {}
    clickable = {name for k in clicked for name in names_of(k)}
    for brush in (own, *(b for b in painted if b is not own)):
        for tag in brush.iter("Label"):
            # Boxes and outlines are used for much else: of those only what can be clicked.
            if tag.get("value") and (not _rank(brush) or name_of(tag) in clickable):
                tags.setdefault(name_of(tag), (tag, brush.get("name", "")))
    order = [name for brush in painted for name in names_of(brush) if name in tags]
    tags = {name: tags[name] for name in dict.fromkeys(order)}
    options = {option: choices[0] for option, choices in OPTIONS.items()} | options_of(keypoint)
    missing = [] if is_plain(keypoint) else [name for name in names_of(keypoint) if name not in tags]
    return LabelConfig(
        image=image.get("name", ""),
        value=value,
        keypoint=keypoint.get("name", ""),
        brush=own.get("name", ""),
        labels=tuple(tags),
        predicted_values=predicted_values_of([tag for tag, _ in tags.values()], keypoint),
        train_after=train_after_of(keypoint),
        smart_only=(keypoint.get("smartOnly") or keypoint.get("smartonly") or "").strip().lower() == "true",
        schema=schema_of(keypoint),
        brushes=tuple(brush for _, brush in tags.values()),
        trained_brushes=tuple(b.get("name", "") for b in painted),
        kinds=tuple((b.get("name", ""), KINDS[str(b.tag)]) for b in painted),
        tolerance=tolerance_of(keypoint),
        prompt_boxes=tuple(b.get("name", "") for b in painted if b.tag == "RectangleLabels" and not is_plain(b)),
        faults=(what_lacks(keypoint, missing, own),) if missing else (),
        suggest=options["suggest"],
        refine=options["refine"],
        people=options["people"],
        overlap=options["overlap"],
        meanings=options["meanings"],
    )


def _brush_of(keypoint: Element, clicked: Sequence[Element], painted: Sequence[Element]) -> Element:
    """The control with most of a keypoint control's labels, then that which says most, then that with fewest others.

    If several are equal, the first keypoint control with these labels has the first of them.
    """

    def differences(brush: Element) -> tuple[int, int, int]:
        own, its = set(names_of(keypoint)), set(names_of(brush))
        return len(own - its), _rank(brush), len(its - own)

    best = min(map(differences, painted))
    brushes = [b for b in painted if differences(b) == best]
    alike = [k for k in clicked if set(names_of(k)) == set(names_of(keypoint))]
    return brushes[min(alike.index(keypoint), len(brushes) - 1)]


def _controls(root: Element, name: str, images: Mapping[str | None, Element]) -> list[Element]:
    return [tag for tag in root.iter(name) if tag.get("name") and tag.get("toName") in images]


def _rank(tag: Element) -> int:
    """How little a control's regions say: masks come before outlines, and those before boxes."""
    return {POLYGON: 1, RECTANGLE: 2}.get(KINDS[str(tag.tag)], 0)
