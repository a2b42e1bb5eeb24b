from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from versions import P, add

from ihp_backend.cli import main
from ihp_backend.label_studio.connections import Connection, Connections
from ihp_backend.learning.registry import BASE, Registry


def ihp(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner(env={"IHP_DATA_DIR": str(tmp_path)}).invoke(main, ["versions", *arguments])


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "versions")


def test_list_shows_what_is_served_and_why(tmp_path: Path, registry: Registry) -> None:
    assert "no project has a version yet" in ihp(tmp_path, "list").output
    first, second = add(registry), add(registry, state="rejected")
    output = ihp(tmp_path, "list").output
    assert f" * {first}" in output
    assert f"   {second}" in output
    assert "rejected" in output
    assert "because" in output
    assert f"   {BASE}" in output
    found = json.loads(ihp(tmp_path, "list", "--project", "1", "--json").output)
    assert found[P]["current"] == first
    assert [version["name"] for version in found[P]["versions"]] == [first, second]


def test_plot_writes_a_picture_of_one_label_sets_versions(tmp_path: Path, registry: Registry) -> None:
    picture = tmp_path / "versions.png"
    refused = ihp(tmp_path, "plot", "--project", P, "--out", str(picture))
    assert refused.exit_code == 1
    add(registry)
    assert ihp(tmp_path, "plot", "--project", P, "--out", str(picture)).output == f"wrote {picture}: 1 versions\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
    add(registry, schema="helen")
    assert "--schema" in ihp(tmp_path, "plot", "--project", P, "--out", str(picture)).output
    written = ihp(tmp_path, "plot", "--project", P, "--out", str(picture), "--schema", "helen")
    assert written.exit_code == 0


def test_show_promote_rollback(tmp_path: Path, registry: Registry) -> None:
    first, second = add(registry), add(registry, state="rejected")
    shown = json.loads(ihp(tmp_path, "show", first, "--project", "1").output)
    assert (shown["is_current"], shown["state"], shown["after"]) == (True, "promoted", {"miou": 0.9})
    assert ihp(tmp_path, "promote", second, "--project", P).exit_code == 0
    assert registry.current(P) == second
    assert ihp(tmp_path, "rollback", "--project", "1").output == f"project {P} is served {first} again\n"
    assert ihp(tmp_path, "promote", "base", "--project", "1").exit_code == 0
    assert registry.current(P) == BASE
    for _ in range(2):
        assert ihp(tmp_path, "rollback", "--project", "1").exit_code == 0
    refused = ihp(tmp_path, "rollback", "--project", "1")
    assert refused.exit_code == 1
    assert "nothing to go back to" in refused.output


def test_errors_say_what_there_is(tmp_path: Path, registry: Registry) -> None:
    assert "known are none" in ihp(tmp_path, "rollback", "--project", "1").output
    add(registry)
    assert f"known are {P}" in ihp(tmp_path, "rollback", "--project", "7").output
    assert "there are: lip-2+p1.001" in ihp(tmp_path, "promote", "lip-9", "--project", "1").output
    add(registry, "1.99")
    refused = ihp(tmp_path, "rollback", "--project", "1")
    assert refused.exit_code == 1
    assert f"several projects have the number 1: give one of {P}, 1.99" in refused.output
    assert ihp(tmp_path, "rollback", "--project", "1.99").exit_code == 0


def test_a_project_that_is_connected_only_is_known(tmp_path: Path) -> None:
    Connections(tmp_path / "connections").remember("5.1", Connection("http://127.0.0.1:8080", "x"))
    assert "has the base weights already" in ihp(tmp_path, "rollback", "--project", "5").output
