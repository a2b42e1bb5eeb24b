"""A request's JSON, measured before it is parsed: how deep it is nested, and what its objects will take."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from werkzeug.exceptions import BadRequest

MOST_DEPTH = 100
"""Label Studio's own requests are nested a dozen deep; some hundred levels overflow what reads them."""
_NO_STRUCTURE = b"0123456789+-.eE, \t\r\n"
_STEPS = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1
# What CPython's objects take, in bytes; a pair is a key and its place in an object.
_LIST, _DICT, _PAIR, _STRING, _NUMBER, _POINTER = 88, 64, 110, 60, 40, 9
CHUNK = 1 << 20


@dataclass(frozen=True)
class Shape:
    """What JSON will be when it is parsed.

    Attributes:
        depth: How deep lists and objects are nested.
        memory: About the most bytes that its text and its objects take.
    """

    depth: int
    memory: int


def measure(data: bytes) -> Shape:
    """Measures JSON by its bytes, in a small part of the time that parsing takes.

    What is not JSON is measured somehow: parsing will refuse it.
    """
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data
    bare = bare.translate(None, _NO_STRUCTURE)  # of masks little is left
    quotes = level = deepest = lists = dicts = 0
    for start in range(0, len(bare), CHUNK):
        characters = np.frombuffer(bare, np.uint8, min(CHUNK, len(bare) - start), start)
        seen = quotes + np.cumsum(characters == ord('"'))
        outside = characters[seen % 2 == 0]
        quotes = int(seen[-1])
        lists += int(np.count_nonzero(outside == ord("[")))
        dicts += int(np.count_nonzero(outside == ord("{")))
        levels = level + np.cumsum(_STEPS[outside], dtype=np.int64)
        if levels.size:
            deepest, level = max(deepest, int(levels.max())), int(levels[-1])
    pairs, commas = data.count(b":"), data.count(b",")
    objects = _LIST * lists + _DICT * dicts + _PAIR * pairs + _STRING * (quotes // 2)
    numbers = _POINTER * commas + _NUMBER * (_large_numbers(data) if len(data) > CHUNK else len(data) // 4)
    return Shape(deepest, _width(data) * (len(data) + 2 * len(bare)) + objects + numbers)


def parse(data: bytes) -> dict[str, Any]:
    """Parses a request's JSON object.

    Raises:
        BadRequest: If it is no JSON object.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON ({error}); expected a JSON object in UTF-8") from error
    if not isinstance(body, dict):
        raise BadRequest(f"the body is a JSON {type(body).__name__}; expected an object")
    return body


def _width(data: bytes) -> int:
    """Bytes of a character, once the text is decoded: the widest one decides for all."""
    if data.isascii():
        return 1
    widest = max(
        int(np.frombuffer(data, np.uint8, min(CHUNK, len(data) - s), s).max()) for s in range(0, len(data), CHUNK)
    )
    return 4 if widest >= 0xF0 else 2


def _large_numbers(data: bytes) -> int:
    """At most so many numbers that are objects of their own: whole ones up to 256 exist once, as in masks."""
    count = data.count(b".") + data.count(b"e") + data.count(b"E")
    for start in range(0, len(data), CHUNK):
        digits = np.frombuffer(data[max(start - 3, 0) : start + CHUNK], np.uint8) - np.uint8(ord("0"))
        is_digit = digits < 10
        if len(digits) < 4:
            continue
        begins = is_digit[1:-2] & is_digit[2:-1] & is_digit[3:] & ~is_digit[:-3]
        values = 100 * digits[1:-2].astype(np.uint16) + 10 * digits[2:-1].astype(np.uint16) + digits[3:]
        follows = np.append(is_digit[4:], False)
        count += int((begins & ((values > 256) | follows)).sum())
    return count
