"""Where a task's photo is: the value of an ``<Image>`` over the task's data, as an address that can be asked.

``value`` is an expression, as Label Studio's interface reads it: ``$photo``, ``$photos[0]``, ``$meta.photo``, or text
around such names. What it gives may be spelt in all the ways that browsers and Label Studio take.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from ihp_backend.label_studio.image_decoding import ImageError

_VARIABLE = re.compile(r"""\$(?:[\w.{}]|\[(?:\d+|"[^"]*"|'[^']*'|[\w{}]*)\])+""")
_KEY = re.compile(r"""[^.\[\]]+|\[(\d+|"[^"]*"|'[^']*'|[\w{}]*)\]""")
_SCHEME = re.compile(r"([A-Za-z][\w+.-]*)://")
_NOT_STORED = ("http", "https", "file", "ftp", "ftps", "ws", "wss", "gopher", "blob", "javascript")
"""Schemes that are no storage's. All others are Label Studio's to resolve: s3, gs, azure-blob, and what it learns."""
_OURS_WITHOUT_SLASH = re.compile(r"(upload|data|storage-data|tasks|projects)/")
_LONGEST_VALUE = 1000
_CONTROL = re.compile(r"[\t\r\n]")
_PRESIGN = re.compile(r"/(?:tasks|projects)/\d+/(?:presign|resolve)/\?fileuri=([\w=-]+)$")


def has_variable(value: str) -> bool:
    """Whether an object tag's value names something of the task's data."""
    return _VARIABLE.search(value) is not None


def address_in(data: Mapping[str, Any], value: str) -> str:
    """Evaluates an object tag's value over a task's data.

    Args:
        data: The task's ``data``.
        value: Such as ``"$image"``, ``"$photos[0].url"``, ``"/x/$file"``.

    Raises:
        ImageError: If the data lacks what it names, or has something else than text there.
    """
    if len(value) > _LONGEST_VALUE:
        raise ImageError(f"the value of <Image> has {len(value)} characters; expected at most {_LONGEST_VALUE}")
    if value.startswith("$") and value[1:] in data:
        return _text(data[value[1:]], data, value)
    if (whole := _VARIABLE.fullmatch(value)) is not None:
        return _text(find_in(data, whole[0][1:]), data, value)
    return _VARIABLE.sub(lambda found: _part(data, found[0][1:], value), value)


def askable(url: str, task: object = None, project: str | None = None) -> str:
    """Returns an address in the one form that is asked for.

    Blanks around go, as in browsers. What lies in a storage that is connected to Label Studio, such as
    ``s3://bucket/photo.jpg``, becomes Label Studio's own address for it, which redirects to a signed one or passes
    the file through.

    Args:
        url: As the task's data has it.
        task: Id of the task.
        project: Id of the project, such as ``"1.1795392500"``; asked if the task has no id yet.

    Raises:
        ImageError: If it is in a storage, and neither task nor project is known.
    """
    url = _CONTROL.sub("", url.strip())
    if url[:5].lower() == "data:":
        return url
    scheme = _SCHEME.match(url)
    if scheme is None:
        return _below_root(url)
    if scheme[1].lower() in _NOT_STORED:
        return _with_slashes(url) if scheme[1].lower() in ("http", "https") else url
    uri = base64.urlsafe_b64encode(url.encode("utf-8", "surrogatepass")).decode()
    number = (project or "").partition(".")[0]
    if isinstance(task, int | str) and str(task).isdecimal():
        return f"/tasks/{task}/presign/?fileuri={uri}"
    if number.isdecimal():
        return f"/projects/{number}/presign/?fileuri={uri}"
    raise ImageError(
        f"the image {url[:200]!r} is in a storage of Label Studio, which needs the task's id for it; the task has none"
    )


def stored_in(url: str) -> str | None:
    """Returns the storage's address that one of Label Studio's own stands for; ``None`` for other addresses."""
    if (found := _PRESIGN.search(url)) is None:
        return None
    try:
        return base64.urlsafe_b64decode(found[1]).decode()
    except ValueError:
        return None


def address_of(task: Mapping[str, Any], value: str, project: str | None = None) -> str:
    """Returns where a task's photo is asked for, see ``address_in`` and ``askable``.

    Args:
        task: Label Studio's task, with ``id`` and ``data``.
        value: The value of ``<Image>``.
        project: Id of the project.

    Raises:
        ImageError: If the data has no such address.
    """
    data = task.get("data")
    return askable(address_in(data if isinstance(data, Mapping) else {}, value), task.get("id"), project)


def _below_root(url: str) -> str:
    """An address of Label Studio without its host, with the slash that some lists leave out."""
    url = _with_slashes(url)
    if _OURS_WITHOUT_SLASH.match(url):
        url = f"/{url}"
    return f"/data{url}" if url.startswith("/upload/") else url


def _with_slashes(url: str) -> str:
    """Browsers take a backslash for a slash, up to the query."""
    head, mark, query = url.partition("?")
    return head.replace("\\", "/") + mark + query


def find_in(data: Any, path: str) -> Any:
    """Looks a path such as ``photos[0].url`` up in a task's data; a key that is spelt like it comes first."""
    if isinstance(data, Mapping) and path in data:
        return data[path]
    found = data
    for match in _KEY.finditer(path):
        key = (match[1] if match[1] is not None else match[0]).strip("\"'")
        if isinstance(found, Mapping):
            found = found.get(key)
        elif isinstance(found, list) and re.fullmatch("[0-9]{1,9}", key) and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found


def _part(data: Mapping[str, Any], path: str, value: str) -> str:
    """The text for a name with text around it; in ``$file.jpg`` the ending belongs to the text."""
    ending = ""
    while find_in(data, path) is None and "." in path:
        path, _, rest = path.rpartition(".")
        ending = f".{rest}{ending}"
    return _text(find_in(data, path), data, value, is_part=True) + ending


def _text(found: Any, data: Mapping[str, Any], value: str, *, is_part: bool = False) -> str:
    if isinstance(found, str) and found.strip():
        return found
    if is_part and isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    there = ", ".join(sorted(map(str, data))) or "nothing"
    came = "" if found is None else f"; it is a {type(found).__name__}"
    raise ImageError(
        f"the task's data has no image address under {value.removeprefix('$')!r} (it has {there:.500}){came}, though "
        "<Image> names it"
    )
