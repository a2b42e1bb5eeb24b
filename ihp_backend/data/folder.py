"""A folder data set: images, labels, classes.json, splits, and maybe the opacity of people, and objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.data.files import ImageFolder, first_of, read_names, read_text
from ihp_backend.data.sample import DataError, FileDataSet, Sample
from ihp_backend.parts import IGNORE, OPEN, SCHEMAS, Part, Schema, normalise


def folder_splits(root: Path) -> tuple[str, ...]:
    """Returns the splits of a folder, ``train``, ``val`` and ``test`` first; none if it has no ``splits/``."""
    names = {path.stem for path in (first_of(root, "labels").parent / "splits").glob("[!.]*.txt")}
    first = [name for name in ("train", "val", "test") if name in names]
    return (*first, *sorted(names - {*first}))


def describe_classes(schema: Schema) -> dict[str, object]:
    """Returns what ``classes.json`` holds of a schema."""
    pairs = [[i, pair] for i, pair in enumerate(schema.mirrored) if i < pair < len(schema)]
    colours = zip(schema.names, schema.colours, strict=True)
    return {
        "classes": [{"id": i, "name": name, "colour": list(colour)} for i, (name, colour) in enumerate(colours)],
        "flip_pairs": pairs,
    }


class FolderDataSet(FileDataSet):
    """Photos and label images of one split of a folder.

    ``classes.json`` holds ``classes`` (id, name, colour as RGB) and ``flip_pairs`` (ids that a mirror swaps).
    ``people/NAME.png``, if it is there, is the opacity of the people (0 to 255), at any size.
    ``objects/NAME.png``, if it is there, has ids of things that may be no class, such as bags, 0 for none (grey PNG).
    """

    def __init__(self, root: Path | str, split: str | Path | None = None, images: Path | None = None) -> None:
        """Opens the folder.

        Args:
            root: The folder.
            split: A name in ``splits/`` without ending, or the path of a file of names; ``None`` takes all.
            images: Where the photos are, if not in ``images/``: label sets of the same photos may share them.

        Raises:
            DataError: If something is missing, empty or malformed.
        """
        root = Path(root)
        try:
            photos = ImageFolder(images or first_of(root, "images"))  # archives unpack into a folder of their own
            labels = ImageFolder(first_of(root, "labels"))
        except DataError as error:
            raise DataError(
                f"{root} is not a folder data set: it needs the folders images/ and labels/ (photos in another folder: "
                "--images)"
            ) from error
        root = labels.folder.parent
        names = photos.names if split is None else read_names(_split_file(root, split), photos.__contains__)
        if missing := [n for n in names if n not in photos]:
            raise DataError(
                f"{root}: {len(missing)} photos of split {split} are not in {photos.folder}, "
                f"the first is {missing[0]!r}"
            )
        schema = _read_schema(root / "classes.json")
        self._beside = {n: ImageFolder(root / n) for n in ("people", "objects") if (root / n).is_dir()}
        super().__init__(root, schema, names, lambda name: (photos.path(name), labels.path(name, ".png")))

    def __getitem__(self, index: int) -> Sample:
        """Reads a sample, with opacity and objects where the folder has them; raises DataError as its base."""
        sample = super().__getitem__(index)
        alpha, objects = (self._grey(folder, sample.name) for folder in ("people", "objects"))
        height, width = sample.labels.shape
        if alpha is not None:
            alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
        if objects is not None and objects.shape != (height, width):
            raise DataError(
                f"sample {sample.name!r}: its objects are {objects.shape[1]}x{objects.shape[0]}, the image is "
                f"{width}x{height}; they must agree"
            )
        return replace(sample, alpha=alpha, objects=objects)

    def _grey(self, folder: str, name: str) -> NDArray[np.uint8] | None:
        path = self.root / folder / f"{name}.png"
        if not path.is_file() and folder in self._beside:
            path = self._beside[folder].path(name)
        if not path.is_file():
            return None
        found = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if found is None:
            raise DataError(f"sample {name!r}: {path} is not a readable image")
        return found.astype(np.uint8, copy=False)


def _split_file(root: Path, split: str | Path) -> Path:
    path = Path(split) if Path(split).is_file() else root / "splits" / f"{split}.txt"
    if not path.is_file():
        there = sorted(p.stem for p in (root / "splits").glob("*.txt"))
        raise DataError(f"no split {str(split)!r}: {path} is missing; there are: {', '.join(there) or 'none'}")
    return path


def _read_schema(path: Path) -> Schema:
    """Reads classes.json; a known schema of the same names is returned as it is, with its aliases.

    Otherwise it is an open one, whose first class is the background, whatever the file calls it.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; expected the ids, names, colours and flip pairs of the classes")
    try:
        fields = json.loads(read_text(path))
        classes = sorted(fields["classes"], key=lambda c: int(c["id"]))
        ids = [c["id"] if isinstance(c["id"], float) else int(c["id"]) for c in classes]
        if ids != list(range(len(classes))) or not classes:
            raise _wrong(path, f"the class ids are {[c['id'] for c in classes]}; expected 0, 1, 2 ... in full")
        names = _names(path, [c["name"] for c in classes])
        colours = [_colour(path, c.get("colour", (128, 128, 128))) for c in classes]
        pairs_of = _flip_pairs(path, names, fields.get("flip_pairs") or [])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise _wrong(path, f"it is malformed ({error!r}); expected classes: [id, name, colour], flip_pairs") from error
    for schema in SCHEMAS.values():
        if schema.names == names:
            return schema
    names = (OPEN.names[0], *names[1:])
    parts = tuple(Part(n, c, (), pairs_of.get(i)) for i, (n, c) in enumerate(zip(names, colours, strict=True)))
    return Schema(OPEN.name, f"classes of {path.parent.name}", parts)


def _names(path: Path, given: Sequence[object]) -> tuple[str, ...]:
    if len(given) > IGNORE:
        raise _wrong(
            path, f"there are {len(given)} classes; expected at most {IGNORE}: {IGNORE} is for pixels to ignore"
        )
    for place, name in enumerate(given):
        if not isinstance(name, str) or not normalise(name):
            raise _wrong(path, f"the name of class {place} is {name!r}; expected text")
    names = tuple(str(name).strip() for name in given)
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        if (other := seen.setdefault(normalise(name), place)) != place:
            raise _wrong(path, f"the classes {other} and {place} have one name, {names[other]!r} and {name!r}")
    if seen.get(normalise(OPEN.names[0]), 0):
        raise _wrong(path, f"class {seen[normalise(OPEN.names[0])]} is the background; expected that to be class 0")
    return names


def _colour(path: Path, given: object) -> str:
    """A colour as ``#rrggbb``, from that or from three numbers."""
    if isinstance(given, str) and re.fullmatch("#?[0-9a-fA-F]{6}", given.strip()):
        return f"#{given.strip().removeprefix('#').lower()}"
    numbers = list(given) if isinstance(given, list | tuple) else []
    if len(numbers) == 3 and all(type(c) is int and 0 <= c <= 255 for c in numbers):
        return "#{:02x}{:02x}{:02x}".format(*numbers)
    raise _wrong(path, f"a colour is {given!r}; expected three numbers from 0 to 255, or text such as '#c82828'")


def _flip_pairs(path: Path, names: Sequence[str], pairs: Iterable[object]) -> dict[int, str]:
    """For each class that a mirror swaps, the other one's name; pairs are of ids or of names."""
    ids: dict[object, int] = {normalise(name): i for i, name in enumerate(names)}
    ids |= {str(i): i for i in range(len(names))} | {i: i for i in range(len(names))}
    pairs_of: dict[int, str] = {}
    for pair in pairs:
        keys = [normalise(p) if isinstance(p, str) else p for p in pair] if isinstance(pair, list) else []
        found = [ids[key] for key in keys if type(key) in (int, str) and key in ids]
        if len(keys) != 2 or len(set(found)) != 2 or set(found) & set(pairs_of):
            raise _wrong(path, f"a flip pair is {pair!r}; expected two classes, by id or name, each in one pair only")
        pairs_of[found[0]], pairs_of[found[1]] = names[found[1]], names[found[0]]
    return pairs_of


def _wrong(path: Path, what: str) -> DataError:
    return DataError(f"{path}: {what}")
