"""The house rules that a reader of the tests relies on, held for every file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
OF_OTHERS = {"_current_model", "_label_studio_client"}
"""Private names of Label Studio's SDK that a stand-in of its server has to set."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name.strip("_") != ""


def private_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Private names that a file takes from others: attributes, imports, and names to patch given as text."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            is_inherited = isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "super"
            if not (is_own or is_inherited or node.attr in own):
                yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, alias.name) for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("setattr", "delattr", "patch"):
            texts = [a.value for a in node.args[:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            yield from ((node.lineno, text) for text in texts if any(map(is_private, text.split("."))))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_reads_a_private_name(path: Path) -> None:
    found = [f"{path.name}:{line}: {name}" for line, name in private_names(ast.parse(path.read_text()))]
    assert [line for line in found if line.rpartition(" ")[2] not in OF_OTHERS] == []


@pytest.mark.parametrize(
    "line",
    [
        "queue._work",
        "from a import _b",
        'monkeypatch.setattr("a.b._c", 1)',
        'monkeypatch.setattr(a, "_b", 1)',
        "a.b._c()",
    ],
)
def test_a_private_name_is_seen(line: str) -> None:
    assert len(list(private_names(ast.parse(line)))) == 1


@pytest.mark.parametrize("line", ["self._a", "super()._a()", "a.__dict__", "for _ in a: pass", 'a.setattr("b.c", 1)'])
def test_what_is_ones_own_is_none(line: str) -> None:
    assert not list(private_names(ast.parse(line)))
