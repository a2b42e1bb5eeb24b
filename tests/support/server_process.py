"""`ihp serve` in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("IHP_")}


@contextmanager
def server(tmp_path: Path, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str], Path]]:
    """A server of its own, ready or the test fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "ihp_backend", "serve", "--port", str(port)],
            env=ENVIRONMENT | {"IHP_DATA_DIR": str(tmp_path)} | environment,
            stdout=file,
            stderr=file,
            text=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                if requests.get(f"{url}/ready", timeout=1).ok:
                    break
            except requests.RequestException:
                assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield url, process, log
    finally:
        process.kill()
        process.wait()
