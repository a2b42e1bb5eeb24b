"""Files that nobody sees half-written, and locks that the kernel takes back from whoever dies with them."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path


class LockedError(RuntimeError):
    """Another process, or another thread, holds the lock."""


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Puts a text in a file's place at once: readers have the old one or the new one. Its folder is made if missing.

    Args:
        path: The file.
        text: What it shall hold.
        mode: Who may read it; by default everybody, for server and trainer may run as different users.

    Raises:
        OSError: If it cannot be written, as on a full disk; the old file is untouched then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Puts several files into a folder, all or none: they are written beside their places first.

    Raises:
        OSError: If one cannot be written, as on a full disk; the old ones are untouched then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-", ignore_cleanup_errors=True) as beside:
        for name, content in files.items():
            (Path(beside) / name).write_bytes(content)
        for name in files:
            os.replace(Path(beside) / name, folder / name)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds a lock for the block. It ends with its holder, however that ends: SIGKILL leaves none behind.

    Args:
        path: The file that stands for the lock; made if missing, and left there.
        wait: Whether to wait for another holder.

    Raises:
        LockedError: If it is held and ``wait`` is off.
        OSError: If the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise LockedError(f"{path} is held by another process") from None
        yield


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock now."""
    try:
        with locked(path, wait=False):
            return False
    except LockedError:
        return True
