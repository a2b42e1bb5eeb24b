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


PACKAGE = ROOT / "ihp_backend"
MIRRORED_ELSEWHERE = {
    "__init__.py": "test_moved.py",  # what the package itself offers is old and lazy import paths
    # Commands that only read options and call what has a test of its own; test_cli.py calls the help of every command.
    "commands/ablate.py": "experiments/test_ablation.py",
    "commands/connect.py": "demo/test_demo.py",
    "commands/data_options.py": "commands/test_evaluate.py",
    "commands/demo.py": "demo/test_demo.py",
    "commands/fill.py": "training/test_pseudo_labels.py",
    "commands/meanings.py": "experiments/test_label_meanings.py",
    "commands/negative_clicks.py": "experiments/test_negative_clicks.py",
    "commands/wrong_labels.py": "experiments/test_wrong_labels.py",
    "commands/rounds.py": "experiments/test_active_learning.py",
    "commands/serve.py": "test_cli.py",
    "label_studio/config_tags.py": "label_studio/test_label_config.py",
    # `ihp export` is tested from the project to the folder that it writes.
    "commands/project_access.py": "commands/test_export.py",
    "label_studio/export_classes.py": "commands/test_export.py",
    "label_studio/exporting.py": "commands/test_export.py",
    "label_studio/importing.py": "commands/test_import_data.py",
    # Layouts of data sets pass one shared test.
    "data/annotated_photos.py": "data/test_layouts.py",
    "data/catalogue.py": "data/test_layouts.py",
    "data/cihp.py": "data/test_layouts.py",
    "data/folder.py": "data/test_layouts.py",
    "data/helen.py": "data/test_layouts.py",
    "data/lip.py": "data/test_layouts.py",
    "data/pascal_person_part.py": "data/test_layouts.py",
    "data/sample.py": "data/test_layouts.py",
    "data/synthetic.py": "data/test_layouts.py",
    # The parts of `ihp demo` are started together.
    "demo/photos.py": "demo/test_demo.py",
    "demo/processes.py": "demo/test_demo.py",
    "demo/project.py": "demo/test_demo.py",
    "demo/stack.py": "demo/test_demo.py",
    "evaluation/report.py": "evaluation/test_protocol.py",  # the report of the protocol's result
    "experiments/benchmark.py": "commands/test_bench.py",  # the command runs all of it
    "experiments/server_under_test.py": "commands/test_bench.py",
    "experiments/hostile_clients.py": "experiments/test_soak.py",
    "experiments/simulated_interface.py": "commands/test_train.py",  # trains, then annotates through it
    "memory.py": "hostile/test_memory.py",
    # Only a server as a whole shows what these do: threads, sockets, processes.
    "label_studio/predict_request.py": "serving/test_application.py",
    "serving/admission.py": "serving/test_application.py",
    "serving/answering.py": "serving/test_application.py",
    "serving/connection.py": "serving/test_front.py",
    "serving/http_worker.py": "serving/test_front.py",
    "serving/process.py": "test_cli.py",
    "serving/wsgi_call.py": "serving/test_front.py",
    "learning/queue_transport.py": "learning/test_queue.py",
    "learning/records.py": "learning/test_queue.py",
    "learning/version.py": "learning/test_registry.py",
    "network/weights_folder.py": "network/test_weights.py",
}
"""Modules whose behaviour another test file holds: a shared contract, or the whole of which they are a part."""


def has_behaviour(path: Path) -> bool:
    return any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(path.read_text())))


def test_every_module_with_behaviour_has_a_test_file_of_its_name() -> None:
    modules = {str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py") if has_behaviour(p)}
    tests = {str(p.relative_to(ROOT / "tests")) for p in TESTS}
    without = {m for m in modules if str(Path(m).with_name(f"test_{Path(m).name}")) not in tests}
    assert sorted(without - MIRRORED_ELSEWHERE.keys()) == [], "write tests/ROOM/test_NAME.py"
    assert sorted(MIRRORED_ELSEWHERE.keys() - without) == [], "they have a test file of their own, or are gone"
    assert set(MIRRORED_ELSEWHERE.values()) <= tests


def test_no_module_and_no_test_file_is_longer_than_400_lines() -> None:
    files = [*PACKAGE.rglob("*.py"), *TESTS]
    assert [str(p.relative_to(ROOT)) for p in files if len(p.read_text().splitlines()) > 400] == []
