"""COCO's instance annotations: masks as compressed run lengths, and the JSON around them.

Runs go down the columns, and the first is of pixels outside the mask. In a compressed text each number from the fourth
on is its difference to the last but one; five bits a character, the lowest first, a sixth says that more follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ihp_backend.parts import Schema


def annotation_of(mask: NDArray[np.bool_], class_id: int, **attributes: Any) -> dict[str, Any]:
    """Returns one mask as an annotation; ``id`` and ``image_id`` are still to be given.

    Args:
        mask: (H, W) bool, not empty.
        class_id: Its category.
        attributes: What else is known of it.
    """
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
    return {
        "category_id": class_id,
        "segmentation": {"size": list(mask.shape), "counts": compressed(run_lengths(mask))},
        "area": int(mask.sum()),
        "bbox": [int(side) for side in box],
        "iscrowd": 0,
        **({"attributes": attributes} if attributes else {}),
    }


def box_annotation_of(mask: NDArray[np.bool_], class_id: int) -> dict[str, Any]:
    """Returns an annotation of a box alone, that around a mask (H, W) bool, not empty: it has no pixels."""
    annotation = annotation_of(mask, class_id)
    across, down = annotation["bbox"][2:]
    return annotation | {"segmentation": [], "area": across * down}


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Returns the lengths of a mask's runs (H, W), down its columns, that of pixels outside first."""
    flat = mask.ravel(order="F")
    ends = np.concatenate(([0] if flat[0] else [], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]))
    lengths: list[int] = np.diff(ends, prepend=0).astype(int).tolist()
    return lengths


def compressed(lengths: Sequence[int]) -> str:
    """Writes run lengths as COCO's text."""
    text = bytearray()
    for place, length in enumerate(lengths):
        rest = length - lengths[place - 2] if place > 2 else length
        while True:
            bits, rest = rest & 31, rest >> 5
            is_last = rest == (-1 if bits & 16 else 0)
            text.append(48 + bits + (0 if is_last else 32))
            if is_last:
                break
    return text.decode("ascii")


def categories(schema: Schema) -> list[dict[str, Any]]:
    """Returns a schema's classes without the background; an id is the class's own."""
    return [{"id": i, "name": name, "supercategory": "person"} for i, name in enumerate(schema.names) if i]
