"""Label images: a pixel's value is the id of its part. Other conventions look alike, and are refused by name.

Masks of 0 and 255, colours that stand for classes, files that a lossy format has blurred: read as ids, they would teach
something else without a word.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.parts import IGNORE, OPEN, Schema

_LOSSY = ("JPEG", "WEBP", "AVIF", "MPO")


def read_label_image(path: Path, schema: Schema) -> NDArray[np.uint8]:
    """Reads a label image: one channel of ids, or indices of a palette.

    Args:
        path: The file.
        schema: Says which ids there are.

    Returns:
        (H, W) uint8: ids of the schema, and 255 for pixels to ignore.

    Raises:
        ValueError: If it cannot be read, or means something else; the message begins with a verb.
    """
    try:
        with Image.open(path) as file:
            kind, mode, bits = str(file.format), file.mode, _bits(path)
            values: NDArray[Any] = np.array(file)
            palette = np.array(file.getpalette("RGB") or (), int).reshape(-1, 3) if mode == "P" else None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"is not a readable image ({error})") from error
    if kind in _LOSSY:
        raise ValueError(f"is a {kind} file, which changes ids a little; expected PNG, which keeps them")
    if values.ndim == 3 and values.shape[2] == 3 and (values == values[..., :1]).all():
        values = values[..., 0]  # grey, written as colour
    if values.ndim != 2:
        raise ValueError(
            f"has shape {values.shape}, colours; expected one channel of part ids, 0 to {len(schema) - 1} for "
            f"{schema.name}"
        )
    if mode == "1" or (palette is not None and _is_black_and_white(np.unique(values), palette)):
        if len(schema) != 2:
            raise ValueError(
                f"is black and white, which tells two classes apart; schema {schema.name} has {len(schema)}"
            )
    elif mode == "L" and bits in (2, 4):
        raise ValueError(f"is a grey image of {bits} bits a pixel, whose values are read in two ways; expected 8 bits")
    if values.dtype.kind == "f" and not (values == np.round(values)).all():
        raise ValueError("has values that are no whole numbers; expected part ids")
    _check_ids(np.unique(values), schema)
    labels = values.astype(np.uint8)
    if palette is not None and schema.name == OPEN.name:  # whose colours are the data set's own
        _check_palette(np.unique(labels), palette, schema)
    return labels


def _check_ids(ids: NDArray[Any], schema: Schema) -> None:
    if unknown := [int(i) for i in ids if not 0 <= i < len(schema) and i != IGNORE]:
        raise ValueError(
            f"has the ids {unknown}; schema {schema.name} has 0 to {len(schema) - 1}, and {IGNORE} for pixels to ignore"
        )
    if list(ids) == [IGNORE]:
        raise ValueError("has no pixel that is not ignored; leave it out of the split")
    if list(ids) == [0, IGNORE]:
        raise ValueError(
            f"has nothing but 0 and {IGNORE}, and {IGNORE} means pixels to ignore, not a part: if it is a mask, write "
            f"the part's id in place of {IGNORE}; if no part is in the photo, leave it out of the split"
        )


def _is_black_and_white(indices: NDArray[Any], palette: NDArray[Any]) -> bool:
    """Whether a palette holds a mask of 0 and 255: programs that make files smaller write it so."""
    colours = [tuple(palette[i]) for i in indices if i < len(palette)]
    return list(indices) == [0, 1] and sorted(colours) == [(0, 0, 0), (255, 255, 255)]


def _check_palette(ids: NDArray[np.uint8], palette: NDArray[Any], schema: Schema) -> None:
    """Raises if all ids have colours of the schema's classes, but of others: then the colours are what is meant."""
    colours = [tuple(colour) for colour in schema.colours]
    used = [(int(i), tuple(palette[i])) for i in ids if i != IGNORE and i < len(palette)]
    if len(set(colours)) < len(colours) or not all(colour in colours for _, colour in used):
        return
    if wrong := [(i, colours.index(colour)) for i, colour in used if colours[i] != colour]:
        index, meant = wrong[0]
        raise ValueError(
            f"has a palette in another order than the classes: index {index} has the colour of class {meant}, "
            f"{schema.names[meant]!r}; expected the indices to be the ids"
        )


def _bits(path: Path) -> int:
    """Bits a pixel of a PNG; Pillow scales grey ones up to eight."""
    with path.open("rb") as file:
        head = file.read(25)
    return head[24] if head.startswith(b"\x89PNG") and len(head) == 25 else 8
