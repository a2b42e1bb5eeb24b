"""Files in their place whole or not at all, drafts that leave nothing behind, and locks."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from ihp_backend.files import (
    LockedError,
    draft_folder,
    is_file_name,
    is_locked,
    locked,
    read_file,
    replacing,
    write_together,
    write_whole,
)


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_is_written_with_its_folder_and_for_whom_it_is_meant(tmp_path: Path) -> None:
    text, secret = tmp_path / "a/b/text", tmp_path / "secret"
    write_whole(text, "grün")
    write_whole(secret, b"\x00\xff", mode=0o600)
    assert text.read_bytes() == "grün".encode()
    assert secret.read_bytes() == b"\x00\xff"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (text, secret)] == [0o644, 0o600]


def test_readers_have_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")
    with replacing(path) as new:
        new.write_text("half")
        assert path.read_text() == "old"
        assert stat.S_IMODE(new.stat().st_mode) == 0o600
        new.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError, ValueError])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")

    def write() -> None:
        with replacing(path) as new:
            new.write_text("half")
            raise failure

    with pytest.raises(failure):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        write_whole(tmp_path / name, "old")
    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a", "new")
    with pytest.raises(OSError, match="No space left"):
        write_together(tmp_path, {"a": b"new", "b": b"new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old", "b": "old"}


def test_several_files_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    write_together(tmp_path / "out", {"a": b"1", "b": b"2"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {"a": b"1", "b": b"2"}
    with pytest.raises(OSError, match="b/c"):  # there is no folder b
        write_together(tmp_path / "out", {"a": b"3", "b/c": b"4"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {"a": b"1", "b": b"2"}


def test_a_draft_is_gone_after_its_block_unless_it_was_renamed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with draft_folder(home) as draft:
        (draft / "file").write_text("half")
    assert list(home.iterdir()) == []
    (home / ".draft-killed").mkdir()
    with draft_folder(home) as draft:
        assert list(home.iterdir()) == [draft], "what a killed process left is deleted"
        draft.rename(home / "kept")
    assert list(home.iterdir()) == [home / "kept"]


def test_a_file_is_read_up_to_a_length(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(OSError, match="is longer than 4 bytes"):
        read_file(path, 4)


def test_a_lock_excludes_threads_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a/lock"
    assert not is_locked(path)
    order = []

    def wait() -> None:
        with locked(path):
            order.append("second")

    with locked(path):
        assert is_locked(path)
        with pytest.raises(LockedError, match="held by another process"), locked(path, wait=False):
            pass
        thread = Thread(target=wait)
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert not is_locked(path)


def test_a_lock_ends_with_its_holder_however_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = f"""
import os, signal, sys
from pathlib import Path
from ihp_backend.files import locked
with locked(Path({str(path)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert is_locked(path)
        process.kill()
        process.wait()
    assert not is_locked(path)


@pytest.mark.parametrize(
    ("name", "may_be"),
    [("1.1795392500", True), ("a-b_c", True), ("x" * 100, True), ("x" * 101, False)]
    + [(name, False) for name in ("", ".", "..", ".a", "a/b", "a\n", "a b", "ä")],
)
def test_names_from_outside_that_may_be_files(name: str, may_be: bool) -> None:
    assert is_file_name(name) is may_be
