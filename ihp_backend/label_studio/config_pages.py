"""Several photos in one task: ``<Image valueList="$photos"/>``, or an ``<Image>`` in a ``<Repeater on="$photos">``.

How many pages there are is said by each task's data. The repeater's tags are there once for each, with the page's
number in the place of its ``indexFlag``, as Label Studio's interface makes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any
from xml.etree.ElementTree import Element

from ihp_backend.label_studio.config_tags import FIX, LabelConfigError
from ihp_backend.label_studio.image_address import find_in
from ihp_backend.label_studio.image_decoding import ImageError

MOST_PAGES = 100
"""So many photos may a task show."""
_MOST_TAGS = 20_000
_INDEX_FLAG = "{{idx}}"
_LIST = re.compile(r"\$([\w.]+)")


def list_of(image: Element) -> str | None:
    """Returns the expression of the list that an ``<Image>`` shows page by page, such as ``$photos``."""
    return image.get("valueList") or image.get("valuelist")


def lists_in(root: Element) -> tuple[str, ...]:
    """Returns the expressions of all lists of photos that a label config shows page by page.

    Raises:
        LabelConfigError: If one names no key of a task's data, or repeaters of images are in each other.
    """
    found = [("Image valueList", given) for image in root.iter("Image") if (given := list_of(image))]
    repeaters = [tag for tag in root.iter() if _is_repeater(tag)]
    found += [("Repeater on", repeater.get("on", "")) for repeater in repeaters]
    for attribute, given in found:
        if not _LIST.fullmatch(given):
            raise LabelConfigError(
                f'<{attribute}="{given}"> names no list of photos; expected the key of the task\'s data after a dollar '
                f'sign, such as {attribute.partition(" ")[2]}="$photos".\n{FIX}'
            )
    if any(inner is not outer and inner.tag == "Repeater" for outer in repeaters for inner in outer.iter()):
        raise LabelConfigError("the label config has a <Repeater> in a <Repeater> of images; expected one")
    return tuple(dict.fromkeys(given for _, given in found))


def repeat(root: Element, sizes: Mapping[str, int]) -> None:
    """Puts, in the place of each ``<Repeater>`` of images, its tags once for each page.

    Args:
        root: The label config; changed in place.
        sizes: How many pages each list has.

    Raises:
        ImageError: If that makes more tags than anybody's config has.
    """
    left = _MOST_TAGS
    for parent in list(root.iter()):
        for repeater in [child for child in parent if _is_repeater(child)]:
            left -= sizes[repeater.get("on", "")] * sum(1 for _ in repeater.iter())
            if left < 0:
                raise ImageError(f"the pages of the task have more than {_MOST_TAGS} tags together")
            place = list(parent).index(repeater)
            flag = repeater.get("indexFlag") or repeater.get("indexflag") or _INDEX_FLAG
            pages = [_page(child, flag, n) for n in range(sizes[repeater.get("on", "")]) for child in repeater]
            parent[place : place + 1] = pages


def sizes_in(lists: Sequence[str], data: Mapping[str, Any]) -> dict[str, int]:
    """Returns how many photos each list has.

    Args:
        lists: Their expressions.
        data: A task's data.

    Raises:
        ImageError: If the data has no such list, or a very long one.
    """
    sizes = {}
    for given in lists:
        name = _LIST.fullmatch(given)
        found = find_in(data, name[1]) if name else None
        if not isinstance(found, list) or not 0 < len(found) <= MOST_PAGES:
            came = f"{len(found)} photos" if isinstance(found, list) else type(found).__name__
            raise ImageError(
                f"the task's data has {came} under {given!r:.100}; expected a list of 1 to {MOST_PAGES} photos"
            )
        sizes[given] = len(found)
    return sizes


def _page(tag: Element, flag: str, number: int) -> Element:
    page = deepcopy(tag)
    for each in page.iter():
        each.attrib.update({name: value.replace(flag, str(number)) for name, value in each.attrib.items()})
    return page


def _is_repeater(tag: Element) -> bool:
    return tag.tag == "Repeater" and next(tag.iter("Image"), None) is not None
