from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ihp_backend.label_studio.connections import Connection, Connections

PROJECT = "1.1795392500"
FIRST = Connection("http://one:8080", "secret-one")
SECOND = Connection("http://two:8080", "secret-two")


def test_a_record_outlives_the_process_and_the_newest_wins(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    connections = Connections(folder)
    assert connections.find(PROJECT) is None
    connections.remember(PROJECT, FIRST)
    connections.remember(PROJECT, SECOND)
    assert connections.find(PROJECT) == Connections(folder).find(PROJECT) == SECOND
    assert connections.find("2.1") is None


def test_only_the_owner_can_read_it_and_nothing_else_is_left_behind(tmp_path: Path) -> None:
    Connections(tmp_path / "records").remember(PROJECT, FIRST)
    (path,) = (tmp_path / "records").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(FIRST)


def test_telling_the_same_again_writes_nothing(tmp_path: Path) -> None:
    connections = Connections(tmp_path)
    connections.remember(PROJECT, FIRST)
    (path,) = tmp_path.iterdir()
    before = path.stat().st_ino
    connections.remember(PROJECT, FIRST)
    assert path.stat().st_ino == before


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"hostname": 1}', "\xff"])
def test_a_damaged_record_counts_as_none_and_is_replaced(tmp_path: Path, content: str) -> None:
    connections = Connections(tmp_path)
    connections.remember(PROJECT, FIRST)
    (path,) = tmp_path.iterdir()
    path.write_bytes(content.encode("latin-1"))
    assert connections.find(PROJECT) is None
    connections.remember(PROJECT, SECOND)
    assert connections.find(PROJECT) == SECOND


def test_a_folder_that_cannot_be_written_is_no_reason_to_forget(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    connections = Connections(tmp_path / "file" / "records")
    connections.remember(PROJECT, FIRST)
    assert connections.find(PROJECT) == FIRST


def test_concurrent_writers_leave_one_whole_record(tmp_path: Path) -> None:
    connections = Connections(tmp_path)
    told = [Connection(f"http://host-{i}:8080", "t" * 500) for i in range(16)]
    threads = [Thread(target=connections.remember, args=(PROJECT, connection)) for connection in told]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert connections.find(PROJECT) in told
    assert len(list(tmp_path.iterdir())) == 1


@given(st.text(max_size=120))
def test_no_name_leaves_the_folder(name: str) -> None:
    connections = Connections(Path("/nonexistent/records"))
    if "/" in name or name.startswith(".") or not name:
        with pytest.raises(ValueError, match="expected"):
            connections.find(name)
    else:
        with suppress(ValueError):
            assert connections.find(name) is None
