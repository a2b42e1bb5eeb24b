"""Files that nobody sees half-written, and locks that the kernel takes back from whoever dies with them."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class LockedError(RuntimeError):
    """Another process, or another thread, holds the lock."""


def is_file_name(name: str) -> bool:
    """Whether a name from outside may be a file's: letters, digits, dots, hyphens and underscores, 100 at most."""
    return _NAME.fullmatch(name) is not None


@contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Gives the name of an empty file to write to. At the end of the block it takes the place of ``path``, whole.

    Readers have the old file or the new one. The folder is made if missing. Until the end only the owner may read it.

    Args:
        path: The file.
        mode: Who may read it; by default everybody, for server and trainer may run as different users.

    Raises:
        OSError: If it cannot be written, as on a full disk. Then, and if the block raises, the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-", suffix=".part")
    os.close(descriptor)
    try:
        yield Path(name)
        os.chmod(name, mode)
        sync(Path(name))
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def write_whole(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Puts a text (as UTF-8) or bytes in a file's place at once, see ``replacing``, which says what is raised."""
    with replacing(path, mode) as new:
        new.write_bytes(content.encode() if isinstance(content, str) else content)


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
def draft_folder(home: Path) -> Iterator[Path]:
    """Gives an empty folder in ``home`` to fill and to rename. What is left there at the end of the block is deleted.

    Drafts that a killed process left behind are deleted, too: only one process at a time may have a draft in ``home``.
    """
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(".draft-*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=home, prefix=".draft-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sync(path: Path) -> None:
    """Waits until a file, or what a folder lists, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path, most_bytes: int) -> bytes:
    """Returns a file's bytes, whatever others may have put in its place: a pipe is not waited for.

    Raises:
        OSError: If it cannot be read, is no file (EINVAL), or is longer than ``most_bytes`` (EFBIG).
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is not a file", str(path))
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"is longer than {most_bytes} bytes", str(path))
    return data


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
    # Not blocking: a pipe in its place would be waited for.
    flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK
    with open(path, "a", opener=lambda name, _: os.open(name, flags, 0o666)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is not a file", str(path))
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
