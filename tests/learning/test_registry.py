from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from versions import P, Q, add

from ihp_backend.learning.registry import BASE, Registry, RegistryError, Status


def names(registry: Registry, project: str = P) -> list[str]:
    return [version.name for version in registry.candidates(project)]


def test_a_new_project_has_the_base_weights(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "versions")
    assert registry.current(P) == BASE
    assert registry.stamp(P) is None
    assert registry.projects() == []
    assert registry.versions(P) == []
    assert names(registry) == []
    with pytest.raises(RegistryError, match="nothing to go back to"):
        registry.rollback(P)


def test_promoted_rejected_rolled_back(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    first = add(registry)
    rejected = add(registry, state="rejected")
    second = add(registry)
    assert [first, rejected, second] == ["lip-2+p1.001", "lip-2+p1.002", "lip-2+p1.003"]
    assert registry.current(P) == second
    assert names(registry) == [second, first]
    status = registry.get(P, rejected).status
    assert (status.state, status.reason, status.parent, status.after) == ("rejected", "because", first, {"miou": 0.9})
    assert registry.rollback(P, "worse") == first
    assert registry.get(P, second).status.state == "rolled back"
    assert registry.get(P, second).status.reason == "worse"
    assert registry.rollback(P) == BASE
    assert names(registry) == []
    registry.promote(P, rejected)
    assert (registry.current(P), registry.get(P, rejected).status.state) == (rejected, "promoted")
    registry.promote(P, BASE)
    assert names(registry) == []
    assert registry.rollback(P) == rejected


def test_every_change_shows_in_the_stamp(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    seen = {registry.stamp(P)}
    for change in (
        lambda: add(registry),
        lambda: add(registry),
        lambda: registry.rollback(P),
        lambda: registry.promote(P, "lip-2+p1.002"),
        lambda: registry.rollback(P),
    ):
        change()
        seen.add(registry.stamp(P))
        assert registry.stamp(P) == Registry(tmp_path).stamp(P)
    assert len(seen) == 6
    before = registry.stamp(P)
    add(registry, state="rejected")
    assert registry.stamp(P) == before


def test_projects_do_not_mix(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    one, other = add(registry, P), add(registry, Q)
    assert (one, other) == ("lip-2+p1.001", "lip-2+p12.001")
    registry.rollback(P)
    assert (registry.current(P), registry.current(Q)) == (BASE, other)
    assert registry.projects() == [P, Q]
    with pytest.raises(RegistryError, match=r"no version 'lip-2\+p12.001'; there are: lip-2\+p1.001"):
        registry.promote(P, other)


def test_what_is_learnt_for_one_schema_never_touches_another(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    body, other = add(registry), add(registry)
    assert registry.current(P, "helen") == BASE
    face = add(registry, schema="helen")
    assert (body, other, face) == ("lip-2+p1.001", "lip-2+p1.002", "helen-2+p1.003")
    assert (registry.current(P, "lip"), registry.current(P, "helen")) == (other, face)
    assert registry.current(P, "cihp") == BASE
    assert [v.name for v in registry.candidates(P, "lip")] == [other, body]
    assert [v.name for v in registry.candidates(P, "helen")] == [face]
    assert registry.get(P, face).status.parent == BASE
    assert registry.schemas(P) == ["lip", "helen"]
    assert registry.rollback(P, schema="helen") == BASE
    assert registry.current(P, "lip") == other
    assert registry.rollback(P, schema="lip") == body
    registry.promote(P, face)
    registry.promote(P, BASE, schema="lip")
    assert (registry.current(P, "lip"), registry.current(P, "helen")) == (BASE, face)
    assert registry.rollback(P, schema="lip") == body


def test_of_several_schemas_one_must_be_said(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    first = add(registry, schema="helen")
    assert registry.current(P) == first, "there is one only"
    second = add(registry)
    for unsaid in (
        lambda: registry.current(P),
        lambda: list(registry.candidates(P)),
        lambda: registry.rollback(P),
        lambda: registry.promote(P, BASE),
    ):
        with pytest.raises(RegistryError, match="helen and lip: say of which"):
            unsaid()
    with pytest.raises(RegistryError, match="is of helen, not of lip"):
        registry.promote(P, first, schema="lip")
    assert (registry.current(P, "lip"), registry.current(P, "helen")) == (second, first)


def test_training_for_one_schema_deletes_no_weights_of_another(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    bodies = [add(registry) for _ in range(3)]
    faces = [add(registry, schema="helen", state="rejected") for _ in range(5)]
    assert registry.prune(P, 2) == [bodies[0], *faces[:3]]
    kept = [version.name for version in registry.versions(P) if version.has_weights]
    assert kept == [*bodies[1:], *faces[3:]]


@pytest.mark.parametrize(("info", "schema"), [("{}", "lip"), ('{"architecture": {"schema": "cihp"}}', "cihp")])
def test_what_an_older_release_left_is_served_on(tmp_path: Path, info: str, schema: str) -> None:
    """It had weights of one schema, and wrote no schema down."""
    for name in ("w-1+p1.001", "w-1+p1.002"):
        folder = tmp_path / P / name
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "info.json").write_text(info)
        digest = hashlib.sha256(b"weights").hexdigest()
        (folder / "status.json").write_text(json.dumps({"state": "promoted", "reason": "", "digest": digest}))
    (tmp_path / P / "current.json").write_text('{"served": ["w-1+p1.001", "base", "w-1+p1.002"], "since": ""}')
    registry = Registry(tmp_path)
    assert [version.schema for version in registry.versions(P)] == [schema, schema]
    assert registry.current(P, schema) == registry.current(P) == "w-1+p1.002"
    registry.check(registry.get(P, "w-1+p1.002"))
    assert registry.current(P, "helen") == BASE
    face = add(registry, schema="helen")
    assert registry.current(P, "helen") == face
    assert registry.rollback(P, schema=schema) == BASE
    assert registry.rollback(P, schema=schema) == "w-1+p1.001"


@pytest.mark.parametrize("project", ["", "../x", "a/b", ".hidden"])
def test_no_project_leaves_the_folder(tmp_path: Path, project: str) -> None:
    with pytest.raises(RegistryError, match="expected"):
        Registry(tmp_path).versions(project)


def test_names_sort_as_they_are_made_and_are_never_used_again(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    made = [add(registry, state="rejected") for _ in range(12)]
    assert made == sorted(made)
    assert [v.name for v in registry.versions(P)] == made
    registry.prune(P, 1)
    assert add(registry) == "lip-2+p1.013"
    assert registry.next_name(P, "lip-2+p1.013") == "lip-2+p1.014"  # trained from a version, not from the base


def test_pruning_keeps_what_is_served_and_what_can_be_gone_back_to(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    served = [add(registry) for _ in range(4)]
    rejected = [add(registry, state="rejected") for _ in range(5)]
    assert registry.prune(P, 2) == [*served[:2], *rejected[:3]]
    assert registry.prune(P, 2) == []
    kept = [version.name for version in registry.versions(P) if version.has_weights]
    assert kept == [*served[2:], *rejected[3:]]
    assert len(registry.versions(P)) == 9, "the records stay"
    assert registry.rollback(P) == served[2]
    with pytest.raises(RegistryError, match="not kept any more"):
        registry.promote(P, served[0])


def test_damage_is_found(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    version = registry.get(P, add(registry))
    registry.check(version)
    (version.folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(RegistryError, match="damaged"):
        registry.check(version)
    with pytest.raises(RegistryError, match="damaged"):
        registry.promote(P, version.name)


def test_a_draft_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    with suppress(KeyboardInterrupt), registry.draft(P) as draft:
        (draft / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt
    with registry.draft(P) as draft:
        (draft / "model.safetensors").write_bytes(b"half")
        with pytest.raises(RegistryError, match=r"no info\.json"):
            registry.add(P, "lip-2+p1.001", draft, Status("promoted", ""))
    assert registry.versions(P) == []
    assert list(tmp_path.rglob("*.safetensors")) == []
    first = add(registry)
    with registry.draft(P) as draft:
        (draft / "model.safetensors").write_bytes(b"other")
        (draft / "info.json").write_text("{}")
        with pytest.raises(RegistryError, match="already"):
            registry.add(P, first, draft, Status("promoted", ""))
    registry.check(registry.get(P, first))


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[None]:
    """A disk on which files of these names, or of any, do not come to their place."""

    def replace(source: str, target: Path) -> None:
        if not names or target.name in names:
            raise OSError(28, "No space left on device")
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        yield


def test_a_disk_that_is_full_at_promotion_keeps_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(tmp_path)
    first = add(registry)

    with full_disk(monkeypatch), pytest.raises(OSError, match="No space left"):
        add(registry)
    assert registry.current(P) == first
    assert [version.name for version in registry.versions(P)] == [first]
    assert not list((tmp_path / P).glob(".new-*"))


def test_a_disk_that_is_full_when_a_version_becomes_current_leaves_none_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(tmp_path)
    first = add(registry)

    with full_disk(monkeypatch, "current.json"):
        with pytest.raises(OSError, match="No space left"):
            add(registry)
        assert registry.current(P) == first
        assert [version.name for version in registry.versions(P)] == [first]
        with pytest.raises(OSError, match="No space left"):
            registry.rollback(P)
    assert registry.get(P, first).status.state == "promoted", "it is served still"
    assert not list((tmp_path / P).glob(".draft-*"))
    assert add(registry) == "lip-2+p1.002"


@pytest.mark.parametrize("damage", [shutil.rmtree, lambda folder: (folder / "status.json").write_text("{")])
def test_what_is_damaged_can_be_rolled_back(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    registry = Registry(tmp_path)
    first, second = add(registry), add(registry)
    damage(tmp_path / P / second)
    assert registry.rollback(P) == registry.current(P) == first


def test_a_rollback_passes_over_versions_whose_weights_are_deleted(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    served = [add(registry) for _ in range(4)]
    registry.prune(P, 2)
    assert registry.rollback(P) == served[2]
    assert registry.rollback(P) == registry.current(P) == BASE


@pytest.mark.parametrize("text", ["", "{", "[]", '{"served": 1}', "\xff"])
def test_damaged_records_mean_the_base_weights(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry(tmp_path)
    add(registry)
    (tmp_path / P / "current.json").write_bytes(text.encode("latin-1"))
    caplog.set_level(logging.ERROR)
    assert registry.current(P) == BASE
    assert "base weights" in caplog.text


def test_a_version_without_a_readable_status_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry(tmp_path)
    first, second = add(registry), add(registry)
    (tmp_path / P / second / "status.json").write_text("{")
    assert names(registry) == [first]
    assert second in caplog.text


def test_promotions_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    made = [add(registry, state="rejected") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: Registry(tmp_path).promote(P, name), made))
    assert sorted(names(registry)) == made


KILLED = """
import sys, time
from pathlib import Path
from ihp_backend.learning.registry import Registry
with Registry(Path(sys.argv[1])).draft(sys.argv[2]) as draft:
    (draft / "info.json").write_text("{}")
    with (draft / "model.safetensors").open("wb") as file:
        file.write(b"half")
        file.flush()
        print("writing", flush=True)
        time.sleep(60)
"""


def test_a_writer_that_is_killed_leaves_nothing_that_is_served(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    first = add(registry)
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), P], stdout=subprocess.PIPE)
    assert writer.stdout
    assert writer.stdout.readline() == b"writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert len(list((tmp_path / P).glob(".draft-*"))) == 1
    assert [version.name for version in registry.versions(P)] == [first]
    start = time.perf_counter()
    assert add(registry) == "lip-2+p1.002", "its name is not lost, and no lock is left"
    assert time.perf_counter() - start < 1
    assert not list((tmp_path / P).glob(".draft-*"))
