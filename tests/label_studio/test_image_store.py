from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ihp_backend.label_studio.image_store import ImageStore


class Downloads:
    def __init__(self, size: int = 10) -> None:
        self.count = 0
        self.size = size

    def __call__(self) -> bytes:
        self.count += 1
        return b"x" * self.size


def test_a_photo_is_downloaded_once_by_all_processes(tmp_path: Path) -> None:
    load = Downloads()
    for store in (ImageStore(tmp_path / "photos", 100), ImageStore(tmp_path / "photos", 100)):
        for _ in range(2):
            assert store.get("a", load) == b"x" * 10
    assert load.count == 1
    assert store.get("b", load)
    assert load.count == 2


def test_the_ones_used_last_are_kept_within_the_bound(tmp_path: Path) -> None:
    store, load = ImageStore(tmp_path, 30), Downloads()
    for age, key in enumerate("abc"):
        store.get(key, load)
        newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_ctime_ns)
        os.utime(newest, (1000 + age, 1000 + age))
    store.get("a", load)  # used again: now the newest
    store.get("d", load)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 30
    load.count = 0
    for key in "acd":
        store.get(key, load)
    assert load.count == 0
    store.get("b", load)
    assert load.count == 1


def test_what_is_larger_than_the_bound_is_not_kept(tmp_path: Path) -> None:
    store, load = ImageStore(tmp_path / "photos", 5), Downloads()
    for _ in range(2):
        assert len(store.get("a", load)) == 10
    assert load.count == 2
    assert not (tmp_path / "photos").exists()


def test_a_full_disk_costs_a_download_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    store, load = ImageStore(tmp_path, 100), Downloads()
    assert store.get("a", load) == store.get("a", load)
    assert load.count == 2
    assert list(tmp_path.iterdir()) == []


def test_a_failed_download_is_told_and_not_kept(tmp_path: Path) -> None:
    def gone() -> bytes:
        raise ValueError("gone")

    store = ImageStore(tmp_path, 100)
    with pytest.raises(ValueError, match="gone"):
        store.get("a", gone)
    assert store.get("a", Downloads())


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path)])
def test_what_others_put_in_a_photos_place_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    store, load = ImageStore(tmp_path, 100), Downloads()
    store.get("a", load)
    (path,) = tmp_path.iterdir()
    path.unlink()
    make(path)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(store.get, "a", load)
        try:
            assert asked.result(5) == b"x" * 10
        except TimeoutError:
            path.write_bytes(b"")  # whoever waits for a writer has one
            raise
    assert load.count == 2
