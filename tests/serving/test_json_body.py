"""JSON is measured before it is parsed: never less than it will take, and as deep as it is."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ihp_backend.serving import json_body
from ihp_backend.serving.json_body import measure

BODIES: dict[str, bytes] = {
    "lists": b"[" + b"[]," * 200_000 + b"[]]",
    "objects": b"[" + b"{}," * 200_000 + b"{}]",
    "pairs": b"[" + b'{"a":1,"b":"cd"},' * 60_000 + b"{}]",
    "keys": json.dumps({f"k{i}": i for i in range(60_000)}).encode(),
    "texts": b"[" + b'"ab",' * 200_000 + b"1]",
    "a long text": b'{"image":"' + b"A" * 2_000_000 + b'"}',
    "one wide letter": ('["' + "a" * 1_000_000 + '\U0001f600"]').encode(),
    "accents": ('["' + "aé" * 500_000 + '"]').encode(),
    "numbers": b"[" + b"257," * 300_000 + b"1]",
    "longer numbers": b"[" + b"123456789012345678901234567890," * 60_000 + b"1]",
    "fractions": b"[" + b"1.5," * 300_000 + b"1]",
    "powers": b"[" + b"1e5," * 300_000 + b"1]",
    "a mask": json.dumps({"rle": [i % 256 for i in range(600_000)]}).encode(),
    "a mask with blanks": json.dumps({"rle": [i % 256 for i in range(600_000)]}, indent=1).encode(),
}


@pytest.mark.parametrize("name", BODIES)
def test_no_body_takes_more_than_was_measured(name: str) -> None:
    data = BODIES[name]
    tracemalloc.start()
    try:
        parsed = json.loads(data)
        took = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert parsed
    told = measure(data).memory
    assert took <= 1.1 * told + 10_000
    assert told < 5 * took + 100_000, "nor is ordinary work refused"


def depth(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)
    return 0


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.text('[]{}"\\\\/u:,e-'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('[]{}"\\\\a', max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None, database=None)
@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_the_depth_is_that_of_what_is_parsed(value: Any, ascii_only: bool, indent: int | None) -> None:
    """Brackets, quotes and backslashes in texts are no structure."""
    assert measure(json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8")).depth == depth(value)


@settings(max_examples=200, deadline=None, database=None)
@given(st.binary(max_size=200))
def test_what_is_not_json_is_measured_somehow(data: bytes) -> None:
    assert measure(data).memory >= 0


def test_what_is_long_is_measured_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.dumps([["a]", {"b": [[1, 257, 25700, 0.5]] * 3}]] * 50).encode()
    monkeypatch.setattr(json_body, "CHUNK", len(data) - 1)
    whole = measure(data)
    for size in (16, 17, 64, 1001):
        monkeypatch.setattr(json_body, "CHUNK", size)
        assert measure(data) == whole
    assert whole.depth == 5
