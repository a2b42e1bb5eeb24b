"""What the documentation names is there: commands and their options, files, variables, messages."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest

from ihp_backend.cli import COMMANDS, main
from ihp_backend.data.synthetic import draw_person
from ihp_backend.experiments.soak import MOST_MB
from ihp_backend.label_studio.predict_request import MOST_TASKS
from ihp_backend.settings import Settings, variable

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCE = "".join(path.read_text() for path in sorted((ROOT / "ihp_backend").rglob("*.py")))
_CALL = re.compile(r"(?:\bihp|-m ihp_backend) ([a-z]+\b[^`\n|]*)")


def calls() -> list[str]:
    """Each call of `ihp`, in a block or in a line of text, without what follows a first word that is no command."""
    found = [call for page in PAGES for call in _CALL.findall(page.read_text().replace("\\\n", " "))]
    return sorted({call for call in found if call.split()[0] in COMMANDS})


@pytest.mark.parametrize("call", calls())
def test_a_command_has_the_options_that_are_named(call: str) -> None:
    words = shlex.split(call.replace("'", ""))
    command = main.get_command(click.Context(main), words[0])
    if isinstance(command, click.Group) and len(words) > 1 and words[1].isalpha():
        command = command.get_command(click.Context(command), words[1])
    assert command is not None, call
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_every_command_is_in_the_readme() -> None:
    assert {name for name in COMMANDS if f"`ihp {name}" not in PAGES[0].read_text()} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_variables_are_settings(page: Path) -> None:
    known = {variable(name) for name in Settings.__dataclass_fields__}
    named = {name.removesuffix("_FILE") for name in re.findall(r"\bIHP_[A-Z_]*[A-Z]\b", page.read_text())}
    assert named - known == set()


def test_the_memory_that_a_soak_allows_is_the_one_that_is_stated() -> None:
    assert f"{MOST_MB} MB where strangers reach it" in (ROOT / "docs" / "deploy.md").read_text()


def test_the_tasks_that_a_request_may_have_are_the_ones_that_are_stated() -> None:
    predict = json.loads((ROOT / "docs/openapi.json").read_text())["paths"]["/predict"]["post"]
    schema = predict["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["tasks"]["maxItems"] == MOST_TASKS
    assert f"At most {MOST_TASKS} photos at" in (ROOT / "README.md").read_text()
    assert f"more than {MOST_TASKS} tasks in a request" in (ROOT / "docs/security.md").read_text()


def test_the_messages_that_are_explained_are_ours() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    messages = [quoted for row in rows for quoted in re.findall(r'"([^"]+)"', row)]
    assert len(messages) > 8
    ours = re.sub(r'"\s*\n\s*f?"', "", SOURCE).replace('\\"', '"')
    for message in messages:
        assert all(piece.strip() in ours for piece in re.split(r"(?:IHP_)?\.\.\.", message)), message


def test_the_tests_that_are_named_are_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 20
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


def test_the_example_in_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(), re.DOTALL)[0]
    image, _ = draw_person(np.random.default_rng(3), 300, 420)
    cv2.imwrite(str(tmp_path / "photo.jpg"), image[..., ::-1])
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    mask = names["masks"]["face"]
    assert mask.shape == image.shape[:2]
    assert mask[88, 210]
