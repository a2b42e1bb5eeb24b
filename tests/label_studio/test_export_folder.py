"""The folder that `ihp export` writes: names of photos, splits, and what stays when it is called again."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from exported import FACE, LEGS, files, labels_of, rows, run, samples, twelve_photos
from fake_project import PROJECT, FakeProject, region

from ihp_backend.data.catalogue import open_data_set
from ihp_backend.data.split import Split
from ihp_backend.files import write_whole
from ihp_backend.label_studio import export_folder
from ihp_backend.label_studio.export_folder import file_name, photo_name


@pytest.fixture
def project() -> Iterator[FakeProject]:
    with twelve_photos() as fake:
        yield fake


def photos_fetched(project: FakeProject) -> list[str]:
    return [path for path in project.paths() if path.startswith("/data/upload")]


def test_a_stopped_export_goes_on_where_it_was(tmp_path: Path, project: FakeProject) -> None:
    out = tmp_path / "out"
    project.fails["photo-7."] = 503
    project.fails["whoami"] = 503
    stopped = run(project, out)
    assert stopped.exit_code == 1
    assert "503" in stopped.output
    assert not (out / "classes.json").exists()
    project.fails.clear()
    before = len(photos_fetched(project))
    done = run(project, out)
    assert done.exit_code == 0, done.output
    kept = int(done.output.partition(" were there")[0].rpartition(" ")[2])
    assert kept > 0
    assert len(photos_fetched(project)) - before == 12 - kept
    assert len(samples(out)) == 12


def test_only_what_has_changed_is_written_again(tmp_path: Path, project: FakeProject) -> None:
    out = tmp_path / "out"
    run(project, out)
    before, fetched = files(out), len(photos_fetched(project))
    again = run(project, out)
    assert "0 tasks written, 12 were there" in again.output
    assert len(photos_fetched(project)) == fetched
    unchanged = {path for path, at in files(out).items() if before.get(path) == at}
    assert {path for path in before if path.startswith(("images", "labels"))} <= unchanged
    project.tasks[3]["annotations"][0] |= {"updated_at": "2026-12-01", "result": [region("Face", LEGS)]}
    project.tasks[5]["annotations"][0]["was_cancelled"] = True
    (out / "labels" / "photo-7.png").unlink()
    done = run(project, out)
    assert "2 tasks written, 9 were there, 1 removed" in done.output
    found = samples(out)
    assert (found["photo-3"].labels == np.where(LEGS, 1, 0)).all()
    assert "photo-5" not in found
    assert not list(out.rglob("photo-5*"))
    assert (found["photo-7"].labels == labels_of(1, 2)).all()


def test_a_task_that_is_put_into_another_split_leaves_no_file_in_the_old_one(
    tmp_path: Path, project: FakeProject
) -> None:
    out = tmp_path / "out"
    for split in ("train", "val"):
        project.tasks[3]["data"]["ihp_split"] = split
        assert run(project, out, "--layout", "lip").exit_code == 0
        found = {path.partition("/")[2] for path in files(out) if "photo-3." in path and not path.startswith(".export")}
        assert found == {f"{split}_images/photo-3.png", f"{split}_segmentations/photo-3.png"}


def test_a_full_disk_names_the_task_and_leaves_nothing_half(
    tmp_path: Path, project: FakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def full(path: Path, content: str | bytes) -> None:
        if path.match("labels/photo-6.png"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_whole(path, content)

    monkeypatch.setattr(export_folder, "write_whole", full)
    stopped = run(project, out)
    assert stopped.exit_code == 1
    assert "task 6 cannot be written" in stopped.output
    assert "No space left on device" in stopped.output
    assert "5 tasks are there, whole" in stopped.output
    assert not [path for path in files(out) if ".part" in path]
    monkeypatch.undo()
    done = run(project, out)
    assert "7 tasks written, 5 were there" in done.output
    assert len(samples(out)) == 12


def test_the_splits_are_those_of_the_training(tmp_path: Path, project: FakeProject) -> None:
    numbers = list(range(1, 41))
    for number in numbers[12:]:
        project.add(number, region("Face", FACE))
    run(project, tmp_path / "out")
    train, held_back = Split(PROJECT, tmp_path / "sides.json").divide(numbers)
    assert open_data_set(tmp_path / "out", "train").names == [f"photo-{n}" for n in train]
    assert open_data_set(tmp_path / "out", "val").names == [f"photo-{n}" for n in held_back]


def test_no_task_changes_side_and_what_training_has_decided_holds(tmp_path: Path, project: FakeProject) -> None:
    for number in range(13, 41):
        project.add(number, region("Face", FACE))
    by_hash = Split(PROJECT, tmp_path / "none.json").divide(list(range(1, 41)))
    moved = by_hash[0][0]
    trained = tmp_path / "data" / "trainings" / "splits" / f"{PROJECT}.json"
    trained.parent.mkdir(parents=True)
    trained.write_text(json.dumps({str(moved): True}))
    run(project, tmp_path / "out")
    first = set(open_data_set(tmp_path / "out", "val").names)
    assert first == {f"photo-{n}" for n in {*by_hash[1], moved}}
    trained.unlink()
    for number in range(50, 80):
        project.add(number, region("Face", FACE))
    run(project, tmp_path / "out")
    val = set(open_data_set(tmp_path / "out", "val").names)
    assert {name for name in val if int(name.rpartition("-")[2]) < 50} == first
    assert len(val) > len(first)


def test_an_imported_task_keeps_its_name_and_split(tmp_path: Path, project: FakeProject) -> None:
    for number in range(1, 11):
        project.tasks[number]["data"] |= {"ihp_name": f"77 ({number})", "ihp_split": "test"}
    done = run(project, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert open_data_set(tmp_path / "out", "test").names == [f"77 ({number})" for number in range(1, 11)]
    assert (open_data_set(tmp_path / "out", "test")[9].labels == labels_of(1, 2)).all()


def test_photos_of_one_name_are_told_apart(tmp_path: Path, project: FakeProject) -> None:
    names = {1: "a/me.png", 2: "b/me.png", 3: "c/ME.png", 4: "0123abcd-me.png", 5: "me-task-2.jpg", 6: "x.jpg.png"}
    for number, name in names.items():
        url = f"/data/upload/1/{name}"
        project.files[url] = project.files[f"/data/upload/1/photo-{number}.png"]
        project.tasks[number]["data"]["image"] = url
    run(project, tmp_path / "out")
    found = {int(record["task"]): record["photo"] for record in rows(tmp_path / "out").values()}
    assert [found[n] for n in range(1, 7)] == ["me", "me-task-2", "ME-task-3", "me-task-4", "me-task-2-task-5", "x_jpg"]
    assert len(samples(tmp_path / "out")) == 12
    run(project, tmp_path / "out")
    assert found == {int(record["task"]): record["photo"] for record in rows(tmp_path / "out").values()}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/data/upload/3/0a1b2c3d-street_1.jpg", "street_1"),
        ("/data/upload/3/street-1.jpg", "street-1"),
        ("/data/local-files/?d=photos/a%20b.JPG", "a b"),
        ("https://example.com/x/y.z.png?sig=1", "y.z"),
        ("/tasks/7/presign/?fileuri=czM6Ly9idWNrZXQvZGlyL3Bob3RvLmpwZw==", "photo"),
        ("data:image/png;base64,AAAA", "task-9"),
        ("https://example.com/", "task-9"),
        ("https://example.com/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "passwd"),
        ("/data/upload/3/..png", "task-9"),
    ],
)
def test_a_photo_is_called_as_its_file_was(url: str, name: str) -> None:
    assert photo_name(url, 9) == name


@pytest.mark.parametrize(
    "text", ["../../x", "a\nb", "a,b;c", "/etc", "x" * 999, "é" * 200, "\ud800", "", ".hidden", "a.jpg"]
)
def test_no_name_leads_out_of_the_folder_or_breaks_a_list(text: str) -> None:
    name = file_name(text)
    assert not set(name) & set("/\\\n,;\0")
    assert not name.startswith(".")
    assert not name.endswith(".jpg")
    assert len(name.encode()) <= 150


def test_a_folder_with_other_files_is_not_touched(tmp_path: Path, project: FakeProject) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    refused = run(project, tmp_path / "mine")
    assert refused.exit_code == 1
    assert "files that no export has written" in refused.output
    run(project, tmp_path / "out")
    other = run(project, tmp_path / "out", "--layout", "lip")
    assert other.exit_code == 1
    assert "layout folder, not lip" in other.output


def test_whenever_it_is_killed_another_run_ends_as_one_that_was_not(
    tmp_path: Path, project: FakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4, 13):
        del project.tasks[number]
    project.tasks[2]["data"] |= {"ihp_split": "val"}
    run(project, tmp_path / "whole", "--layout", "coco")
    expected = {path: (tmp_path / "whole" / path).read_bytes() for path in files(tmp_path / "whole")}
    writes = 0

    def counted(path: Path, content: str | bytes) -> None:
        nonlocal writes
        writes += 1
        if writes == killed_at:
            raise KeyboardInterrupt
        write_whole(path, content)

    monkeypatch.setattr(export_folder, "write_whole", counted)
    for killed_at in range(1, 100):
        out, writes = tmp_path / str(killed_at), 0
        if run(project, out, "--layout", "coco").exit_code == 0:
            break
        writes = 100
        assert run(project, out, "--layout", "coco").exit_code == 0
        assert {path: (out / path).read_bytes() for path in files(out)} == expected
    assert 12 < killed_at < 99
