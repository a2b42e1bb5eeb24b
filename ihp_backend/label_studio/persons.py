"""Whose a region is, in photos of several people: kept in its ``meta``, which Label Studio passes on as it came.

``meta.ihp.person`` is a number from 1 on. What an annotator has written to a region ("Add meta info": ``person 2``, or
``2`` alone) goes before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MOST_PEOPLE = 254
_WRITTEN = re.compile(r"\s*(?:person\s*)?#?([1-9][0-9]{0,2})\s*", re.IGNORECASE)


def person_of(region: Mapping[str, Any]) -> int | None:
    """Returns whose a region is, 1 to 254; ``None`` if it does not say."""
    meta = region.get("meta")
    if not isinstance(meta, Mapping):
        return None
    written = meta.get("text")
    for text in written if isinstance(written, list) else [written]:
        found = _WRITTEN.fullmatch(text) if isinstance(text, str) else None
        if found and int(found[1]) <= MOST_PEOPLE:
            return int(found[1])
    own = meta.get("ihp")
    person = own.get("person") if isinstance(own, Mapping) else None
    return person if type(person) is int and 1 <= person <= MOST_PEOPLE else None


def of_person(region: dict[str, Any], person: int) -> dict[str, Any]:
    """Returns a region that says whose it is; the rest of its ``meta`` stays."""
    meta = region.get("meta") or {}
    return {**region, "meta": {**meta, "ihp": {**meta.get("ihp", {}), "person": person}}}
