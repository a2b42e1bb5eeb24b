"""What a process must be told before torch is imported, for tensors to be fast on a CPU."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

from ihp_backend.memory import MemoryBudget

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


def prepare() -> None:
    """Keeps freed memory in the process, and lets waiting threads sleep soon.

    glibc gives every large tensor back to the kernel when it is freed, and the next one is made of new pages, which
    cost more than the arithmetic on them. Where there is no glibc, nothing happens. Threads that spin while they wait
    make torch twenty times slower beside another busy process.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # some 20 microseconds: between two layers, not between two clicks
    os.environ.setdefault("OMP_WAIT_POLICY", "active")  # and a little even where there are more threads than cores
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_ARENA_MAX, 1)  # what one thread has freed is there for the others


def give_back() -> None:
    """Gives memory that is free inside of the process back to the kernel, in some 80 ms; without glibc nothing."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def give_back_after_large(memory: MemoryBudget) -> bool:
    """Gives memory back once requests that took more than a quarter of the budget together are over.

    Called every second. What clicks use stays: they take less.

    Returns:
        Whether it did.
    """
    is_due = memory.was_large()
    if is_due:
        give_back()
    return is_due
