"""Where a data set's files are, as archives unpack and other systems name them, and lists of their names."""

from __future__ import annotations

import codecs
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from ihp_backend.data.sample import ENDINGS, AbsentError, DataError

_DEPTH = 4
"""Folders around a data set's own: an archive's name, up to three times, and the user's."""
_PASSED_OVER = ("__macosx", "imagesets")
"""Apple's shadow files; the lists of VOC, which are of other tasks."""
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # it begins as that of UTF-16 does
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_IMAGE = re.compile(rf"(.*?(?:{'|'.join(map(re.escape, ENDINGS))}))(?=[\s,;\"']|$)", re.IGNORECASE)


def first_of(root: Path, *candidates: str) -> Path:
    """Returns the first of these paths that exists in a data set's folder, or in the folders that it unpacked into.

    The nearest to the root wins. Letters' case does not matter.

    Raises:
        AbsentError: If none does; the message lists them.
    """
    for folder in _folders(root):
        for candidate in candidates:
            if (found := _below(folder, candidate)) is not None:
                return found
    raise AbsentError(f"{root} lacks {' or '.join(candidates)}; see docs/datasets.md for the expected layout")


class ImageFolder:
    """The images of a folder by their names without ending, as other systems mean them.

    Whether an accent is a character of its own makes no difference, nor does the case of letters if no other image has
    the name in the right one. A folder without images that has another one of its own name is that one.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = _images(folder)
        while not files and (folder := folder / folder.name).is_dir():  # unpacked into a folder of its own name
            files = _images(folder)
        self._paths = {_composed(p.stem): p for p in files}
        self._any_case = {name.lower(): p for name, p in self._paths.items()}
        self.names = list(self._paths)

    def __contains__(self, name: str) -> bool:
        return self._found(name) is not None

    def path(self, name: str, ending: str = ".jpg") -> Path:
        """Returns an image's path; one that is missing would have this ending."""
        return self._found(name) or self.folder / f"{name}{ending}"

    def _found(self, name: str) -> Path | None:
        name = _composed(name)
        return self._paths.get(name) or self._any_case.get(name.lower())


def read_names(path: Path, known: Callable[[str], bool] = lambda name: False) -> list[str]:
    """Reads a list of names, one in a line; folder, an image's ending and further columns are ignored.

    Args:
        path: The list: UTF-8 or UTF-16, with any kind of line ends and of slashes.
        known: Whether there is a photo of that name: names may have blanks, and then look like columns.

    Raises:
        DataError: If the file is missing or unreadable, or lists nothing.
    """
    if not path.is_file():
        raise DataError(f"the list of names {path} is missing")
    lines = [line.strip() for line in read_text(path).splitlines()]
    names = [_name(line, known) for line in lines if line]
    if not names:
        raise DataError(f"the list of names {path} is empty")
    return names


def read_text(path: Path) -> str:
    """Reads a text file, whatever system it comes from: UTF-8, with a byte order mark or without, or UTF-16.

    Raises:
        DataError: If it cannot be read, or is neither; the message names it.
    """
    try:
        data = path.read_bytes()
        encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
        if encoding == "utf-8" and b"\0" in data:  # UTF-16 without a mark: every other byte of Latin text is 0
            encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
        return data.decode(encoding)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is neither UTF-8 nor UTF-16 ({error.reason}); save it as UTF-8") from error


def _name(line: str, known: Callable[[str], bool]) -> str:
    """The name in a line: all of it, or its first column, whichever is a photo's."""
    image = _IMAGE.match(line.strip("\"'"))
    columns = (line, image[1] if image else "", line.split("\t")[0], re.split(r"[,;]", line)[0], line.split()[0])
    names = [_stem(column) for column in columns if column]
    default = _stem(image[1] if image else line.split()[0])
    return next((name for name in names if known(name)), default)


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and not p.name.startswith("."))


def _stem(text: str) -> str:
    name = re.split(r"[\\/]", text.strip().strip("\"'"))[-1].strip()
    stem, dot, ending = name.rpartition(".")
    return stem if dot and f".{ending}".lower() in ENDINGS else name


def _composed(name: str) -> str:
    """A name with its accents on the letters: macOS writes them behind."""
    return unicodedata.normalize("NFC", name)


def _folders(root: Path) -> Iterator[Path]:
    """Yields a folder and those below it, level by level."""
    level = [root]
    for _ in range(_DEPTH + 1):
        yield from level
        level = [p for folder in level for p in _subfolders(folder)]


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # it knows what is a folder: there may be fifty thousand photos
        names = sorted(entry.name for entry in entries if entry.is_dir())
    return [folder / name for name in names if not name.startswith(".") and name.lower() not in _PASSED_OVER]


def _below(folder: Path, path: str) -> Path | None:
    """A path below a folder, whatever the case of its letters."""
    for part in Path(path).parts:
        if (folder / part).exists():
            folder = folder / part
            continue
        same = [p for p in folder.iterdir() if p.name.lower() == part.lower()] if folder.is_dir() else []
        if not same:
            return None
        folder = min(same)
    return folder
