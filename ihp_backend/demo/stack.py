"""Label Studio and the backend, started together on this machine, with everything that they keep in one folder."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ihp_backend.demo.processes import Children, ProcessError, require_free
from ihp_backend.files import LockedError, locked, write_whole
from ihp_backend.label_studio.client import Client

_USER = "annotator@example.com"
_FIRST_START_S = 600.0  # a busy machine takes minutes for the migrations of the first start


@dataclass(frozen=True)
class Credentials:
    """User and secrets of this Label Studio."""

    user: str
    password: str
    token: str


@dataclass(frozen=True)
class Stack:
    """What runs: the addresses of Label Studio and the backend, who may enter, and the processes."""

    url: str
    backend: str
    credentials: Credentials
    client: Client
    children: Children


@contextmanager
def running(
    data_dir: Path,
    *,
    port: int,
    backend_port: int,
    label_studio: Path,
    settings: Mapping[str, str] | None = None,
    say: Callable[[str], None],
) -> Iterator[Stack]:
    """Starts both, and stops them at the end of the block.

    Args:
        data_dir: Where everything is kept; the next start finds it again.
        port: Label Studio's.
        backend_port: The backend's.
        label_studio: Label Studio's command.
        settings: Further IHP_* variables of the backend.
        say: Tells the user what happens.

    Raises:
        ProcessError: If one does not start, a port is taken, or the folder is in use.
    """
    if not label_studio.is_file():
        raise ProcessError(f"{label_studio} is missing; `make run` installs it, or name it with --label-studio")
    require_free(port, "Label Studio", "PORT=... make run, or --port")
    require_free(backend_port, "the backend", "BACKEND_PORT=... make run, or --backend-port")
    is_first = not (data_dir / "label-studio").exists()
    credentials = credentials_in(data_dir / "credentials.json")
    url, backend = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{backend_port}"
    with alone(data_dir), Children(data_dir / "logs") as children:
        say(f"starting Label Studio and the backend; their logs are in {data_dir / 'logs'}")
        children.start(
            "label-studio",
            [label_studio, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)],
            label_studio_environment(url, data_dir, credentials),
        )
        children.start(
            "backend",
            [sys.executable, "-m", "ihp_backend", "serve", "--port", str(backend_port)],
            {**backend_environment(url, data_dir, credentials), **(settings or {})},
        )
        children.wait_for("backend", f"{backend}/health", 120)
        if is_first:
            say("the first start of Label Studio takes about a minute")
        children.wait_for("label-studio", f"{url}/health", _FIRST_START_S)
        yield Stack(url, backend, credentials, Client(url, credentials.token), children)


@contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """Keeps a second start away from the same data.

    Raises:
        ProcessError: If there is one.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(data_dir / "lock", wait=False))
        except LockedError as error:
            raise ProcessError(f"{data_dir} is in use by another demo; stop it, or take another --data-dir") from error
        yield


def credentials_in(path: Path) -> Credentials:
    """Reads the password and token of earlier starts, or makes them, readable by the owner only."""
    if not path.exists():
        made = {"user": _USER, "password": secrets.token_urlsafe(9), "token": secrets.token_hex(20)}
        write_whole(path, json.dumps(made), mode=0o600)
    return Credentials(**json.loads(path.read_text()))


def label_studio_environment(url: str, data_dir: Path, credentials: Credentials) -> Mapping[str, str]:
    """Returns the environment of Label Studio: the user's own, without its LABEL_STUDIO_* variables."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("LABEL_STUDIO_")},
        "LABEL_STUDIO_BASE_DATA_DIR": str(data_dir / "label-studio"),
        "LABEL_STUDIO_HOST": url,
        "LABEL_STUDIO_USERNAME": credentials.user,
        "LABEL_STUDIO_PASSWORD": credentials.password,
        "LABEL_STUDIO_USER_TOKEN": credentials.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        # Otherwise it refuses a backend on this machine as a "reserved network address".
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }


def backend_environment(url: str, data_dir: Path, credentials: Credentials) -> Mapping[str, str]:
    """Returns the environment of the backend: the user's own, but for what this start decides."""
    own = ("IHP_HOST", "IHP_PORT", "IHP_BASIC_AUTH", "IHP_LABEL_STUDIO", "IHP_ALLOW_ANONYMOUS")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(own)},
        "IHP_DATA_DIR": str(data_dir / "backend"),
        "IHP_LABEL_STUDIO_URL": url,
        "IHP_LABEL_STUDIO_TOKEN": credentials.token,
    }
