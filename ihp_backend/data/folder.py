"""A folder data set: ``images/``, ``labels/``, ``classes.json``, ``splits/*.txt``."""

from __future__ import annotations

import json
from pathlib import Path

from ihp_backend.data.sample import ENDINGS, DataError, FileDataSet, read_names
from ihp_backend.parts import OPEN, SCHEMAS, Part, Schema


class FolderDataSet(FileDataSet):
    """Photos and label images of one split of a folder.

    ``classes.json`` holds ``classes`` (id, name, colour as RGB) and ``flip_pairs`` (ids that a mirror swaps).
    """

    def __init__(self, root: Path | str, split: str | Path | None = None) -> None:
        """Opens the folder.

        Args:
            root: The folder.
            split: A name in ``splits/`` without ending, or the path of a file of names; ``None`` takes all.

        Raises:
            DataError: If something is missing, empty or malformed.
        """
        root = Path(root)
        if not (root / "images").is_dir() or not (root / "labels").is_dir():
            raise DataError(f"{root} is not a folder data set: it needs the folders images/ and labels/")
        images = {p.stem: p for p in sorted((root / "images").iterdir()) if p.suffix.lower() in ENDINGS}
        names = list(images) if split is None else read_names(_split_file(root, split))
        if missing := [n for n in names if n not in images]:
            raise DataError(
                f"{root}: {len(missing)} photos of split {split} are not in images/, the first is {missing[0]!r}"
            )
        schema = _read_schema(root / "classes.json")
        super().__init__(root, schema, names, lambda name: (images[name], root / "labels" / f"{name}.png"))


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
        fields = json.loads(path.read_text())
        classes = sorted(fields["classes"], key=lambda c: int(c["id"]))
        names = tuple(str(c["name"]) for c in classes)
        if [int(c["id"]) for c in classes] != list(range(len(classes))) or not classes:
            raise DataError(f"{path}: the class ids are {[c['id'] for c in classes]}; expected 0, 1, 2 ... in full")
        twins = {}
        for left, right in fields.get("flip_pairs", []):
            twins[int(left)], twins[int(right)] = names[int(right)], names[int(left)]
        colours = ["#{:02x}{:02x}{:02x}".format(*c.get("colour", (128, 128, 128))) for c in classes]
    except (KeyError, TypeError, IndexError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is malformed ({error!r}); expected classes: [id, name, colour], flip_pairs") from error
    for schema in SCHEMAS.values():
        if schema.names == names:
            return schema
    names = (OPEN.names[0], *names[1:])
    parts = tuple(Part(n, c, (), twins.get(i)) for i, (n, c) in enumerate(zip(names, colours, strict=True)))
    return Schema(OPEN.name, f"classes of {path.parent.name}", parts)
