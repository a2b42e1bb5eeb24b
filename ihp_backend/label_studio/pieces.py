"""The polygons of one mask: a region for each piece, which a later click replaces together.

The first has the mask's own id, the others that id, a dot and their number. What Label Studio copies or draws gets an
id of its own, and so is a mask of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ihp_backend.label_studio.mask_values import POLYGON, label_of

_PIECE = re.compile(r"(.+)\.([2-9]|[1-9][0-9]{1,3})")


def piece_id(mask_id: str, number: int) -> str:
    """Returns the id of a mask's piece; they are counted from 1 on."""
    return mask_id if number == 1 else f"{mask_id}.{number}"


def mask_and_piece(region: Mapping[str, Any]) -> tuple[str, int]:
    """Returns the id of the mask that a region is of, and which piece of it; an empty id if it has none."""
    own = str(region.get("id") or "")
    found = _PIECE.fullmatch(own) if region.get("type") == POLYGON else None
    return (found[1], int(found[2])) if found else (own, 1)


def together(regions: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Puts the pieces of a mask together, where its first one is; pieces of another label are another mask."""
    masks: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for place, region in enumerate(regions):
        mask_id, _ = mask_and_piece(region)
        is_piece = region.get("type") == POLYGON and mask_id
        masks.setdefault((mask_id, label_of(region)) if is_piece else (place,), []).append(region)
    return list(masks.values())
