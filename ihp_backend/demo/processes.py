"""Child processes that start together and stop together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

_GRACE_S = 20.0


class ProcessError(RuntimeError):
    """A child did not start, or stopped by itself; the message has the end of its log."""


def require_free(port: int, what: str, option: str) -> None:
    """Checks that a port of loopback can be listened on.

    Raises:
        ProcessError: If something listens there already.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ProcessError(
                f"port {port} for {what} is taken ({error.strerror}); stop what uses it, or choose another: {option}"
            ) from error


class Children:
    """Runs commands, each in a process group of its own, and ends them all with the block."""

    def __init__(self, logs: Path) -> None:
        """Appends each child's output to a file in the folder ``logs``, which is made if missing."""
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str | Path], environ: Mapping[str, str]) -> None:
        """Starts a command under a name."""
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [str(word) for word in command],
                env=dict(environ),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl+C reaches this process only, which stops the others in order
            )

    def wait_for(self, name: str, url: str, timeout_s: float) -> None:
        """Waits until a child answers at an address.

        Raises:
            ProcessError: If it stops, or does not answer in time.
        """
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            self.check()
            try:
                if requests.get(url, timeout=2).status_code < 400:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.3)
        raise ProcessError(
            f"{name} did not answer at {url} within {timeout_s:.0f} s; the end of its log:\n{self._tail(name)}"
        )

    def check(self) -> None:
        """Checks that all children run.

        Raises:
            ProcessError: If one has stopped.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                raise ProcessError(
                    f"{name} stopped with status {process.returncode}; the end of its log:\n{self._tail(name)}"
                )

    def stop(self) -> None:
        """Asks all children to stop, the last started first, and kills those that do not."""
        for process in reversed(self._running.values()):
            _signal(process, signal.SIGTERM)
        until = time.monotonic() + _GRACE_S
        for process in self._running.values():
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait()
            _signal(process, signal.SIGKILL)  # what it may have left behind in its group
        self._running.clear()

    def _tail(self, name: str) -> str:
        lines = (self._logs / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-15:])


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
