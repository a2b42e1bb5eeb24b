from __future__ import annotations

from pathlib import Path

import pytest
from waiting import eventually

from ihp_backend import again
from ihp_backend.again import Again
from ihp_backend.label_studio import connections
from ihp_backend.label_studio.connections import Connection, Connections


def test_work_is_repeated_until_it_goes_well_and_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "EVERY_S", 0.01)
    done: list[int] = []

    def work() -> None:
        done.append(len(done))
        if len(done) % 3:
            raise OSError(28, "No space left on device")

    repeated = Again("work", work)
    for total in (3, 6):
        repeated.later()
        repeated.later()
        eventually(lambda total=total: len(done) == total and not repeated.is_running)  # type: ignore[misc]


def test_what_setup_told_on_a_full_disk_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(again, "EVERY_S", 0.01)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    known = Connections(tmp_path)
    told = Connection("http://a.example", "t")
    with monkeypatch.context() as patch:
        patch.setattr(connections, "write_whole", full)
        known.remember("1.1", told)
        assert known.find("1.1") == told
        assert Connections(tmp_path).find("1.1") is None
    eventually(lambda: Connections(tmp_path).find("1.1") == told)


def test_no_more_projects_than_anybody_has_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 3)
    known = Connections(tmp_path)
    for number in range(3):
        known.remember(f"{number}.1", Connection("http://a.example"))
    with pytest.raises(ValueError, match="3 projects are known already"):
        known.remember("9.1", Connection("http://a.example"))
    known.remember("1.1", Connection("http://b.example"))
    assert known.projects() == ["0.1", "1.1", "2.1"]
