"""Photos of trainings on disk: each is downloaded once, and the ones used last are kept."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ihp_backend.files import read_file, write_whole

logger = logging.getLogger(__name__)


class ImageStore:
    """A folder of files, bounded by their total size. Processes may share it.

    A disk that is full or cannot be written costs downloads, and nothing else.

    Args:
        folder: Where the files are; made if missing.
        capacity: Most bytes that are kept.
    """

    def __init__(self, folder: Path, capacity: int) -> None:
        self._folder = folder
        self._capacity = capacity

    def get(self, key: str, load: Callable[[], bytes]) -> bytes:
        """Returns a file's bytes.

        Args:
            key: Names the file, such as its address with all that it depends on.
            load: Downloads it. Whatever it raises is raised.
        """
        path = self._folder / hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=20).hexdigest()
        try:
            data = read_file(path, self._capacity)
            os.utime(path)
            return data
        except OSError:
            data = load()
        try:
            self._keep(path, data)
        except OSError as error:
            logger.warning("a photo cannot be kept in %s: %s", self._folder, error)
        return data

    def _keep(self, path: Path, data: bytes) -> None:
        if len(data) > self._capacity:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room(len(data))
        write_whole(path, data, mode=0o600)

    def _make_room(self, size: int) -> None:
        with os.scandir(self._folder) as entries:
            found = [(entry.stat(follow_symlinks=False), entry.path) for entry in entries]
        files = sorted((status.st_mtime, status.st_size, path) for status, path in found)
        total = size + sum(length for _, length, _ in files)
        for _, length, path in files:
            if total <= self._capacity:
                return
            with suppress(OSError):
                os.unlink(path)
            total -= length
