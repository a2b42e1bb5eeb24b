"""``ihp demo``: Label Studio, the backend and photos, ready to click."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from ihp_backend.demo.photos import PhotosError, default_photos, photos_in
from ihp_backend.demo.processes import Children, ProcessError, require_free
from ihp_backend.demo.project import (
    BackendAccess,
    connect_backend,
    find_project,
    hotkeys,
    import_new,
    label_config_of,
)
from ihp_backend.label_studio.client import Client, LabelStudioError

_USER = "annotator@example.com"
_FIRST_START_S = 600.0  # a busy machine takes minutes for the migrations of the first start


@dataclass(frozen=True)
class Credentials:
    """User and secrets of the demonstration's Label Studio."""

    user: str
    password: str
    token: str


@click.command()
@click.option("--images", type=click.Path(path_type=Path), help="Folder with your own photos.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Label Studio's port.")
@click.option("--backend-port", default=9090, show_default=True, type=click.IntRange(1, 65535))
@click.option("--data-dir", default=Path(".run"), show_default=True, type=click.Path(path_type=Path))
@click.option(
    "--label-studio",
    default=Path(".venv-label-studio/bin/label-studio"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Label Studio's command.",
)
@click.option("--schema", default="lip", show_default=True, help="Whose label config a new project gets.")
@click.option("--preannotate", is_flag=True, help="Opened photos start with all parts that the backend sees.")
def demo(
    images: Path | None,
    port: int,
    backend_port: int,
    data_dir: Path,
    label_studio: Path,
    schema: str,
    preannotate: bool,
) -> None:
    """Starts Label Studio and the backend on this machine, with a project of photos. Ctrl+C stops both.

    Everything is kept in --data-dir: the next start finds the project, its annotations and the password again.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT, too: a shell's background job ignores it
        signal.signal(number, signal.default_int_handler)
    try:
        if not label_studio.is_file():
            raise ProcessError(f"{label_studio} is missing; `make run` installs it, or name it with --label-studio")
        require_free(port, "Label Studio", "PORT=... make run, or --port")
        require_free(backend_port, "the backend", "BACKEND_PORT=... make run, or --backend-port")
        data_dir = data_dir.resolve()
        photos = photos_in(images) if images else default_photos(data_dir / "photos")
        title = f"Human parsing: {images.resolve().name}" if images else "Human parsing"
        place = str(images.resolve()) if images else ""  # tells apart two folders of one name
        config = label_config_of(schema)
        is_first = not (data_dir / "label-studio").exists()
        credentials = _credentials(data_dir / "credentials.json")
        url, backend = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{backend_port}"
        with _alone(data_dir), Children(data_dir / "logs") as children:
            click.echo(f"starting Label Studio and the backend; their logs are in {data_dir / 'logs'}")
            children.start(
                "label-studio",
                [label_studio, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)],
                _label_studio_environment(url, data_dir, credentials),
            )
            children.start(
                "backend",
                [sys.executable, "-m", "ihp_backend", "serve", "--port", str(backend_port)],
                _backend_environment(url, data_dir, credentials),
            )
            children.wait_for("backend", f"{backend}/health", 120)
            if is_first:
                click.echo("the first start of Label Studio takes about a minute")
            children.wait_for("label-studio", f"{url}/health", _FIRST_START_S)
            client = Client(url, credentials.token)
            project = find_project(client, title, place)
            if project is None:
                project = client.create_project(title[:50], config, description=place)
            elif not is_first and schema != "lip":
                click.echo(f"project {title!r} keeps its label config; --schema is for a new one")
            connect_backend(client, int(project["id"]), BackendAccess(backend), preannotate=preannotate)
            made = import_new(client, int(project["id"]), photos)
            click.echo(f"project {title!r}: {made} new photos" if made else f"project {title!r} is as you left it")
            click.echo(
                _instructions(f"{url}/projects/{project['id']}/data", credentials, hotkeys(project["label_config"]))
            )
            while True:
                children.check()
                time.sleep(1)
    except KeyboardInterrupt:
        click.echo("\nstopped; everything is kept for the next start")
    except (ProcessError, PhotosError, LabelStudioError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Keeps a second demonstration away from the same data.

    Raises:
        ProcessError: If there is one.
    """
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ProcessError(f"{data_dir} is in use by another demo; stop it, or take another --data-dir") from error
        yield


def _credentials(path: Path) -> Credentials:
    """Reads the password and token of earlier starts, or makes them, readable by the owner only."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = {"user": _USER, "password": secrets.token_urlsafe(9), "token": secrets.token_hex(20)}
        part = path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(json.dumps(made))
        part.replace(path)
    return Credentials(**json.loads(path.read_text()))


def _label_studio_environment(url: str, data_dir: Path, credentials: Credentials) -> Mapping[str, str]:
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


def _backend_environment(url: str, data_dir: Path, credentials: Credentials) -> Mapping[str, str]:
    own = ("IHP_HOST", "IHP_PORT", "IHP_BASIC_AUTH", "IHP_LABEL_STUDIO", "IHP_ALLOW_ANONYMOUS")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(own)},
        "IHP_DATA_DIR": str(data_dir / "backend"),
        "IHP_LABEL_STUDIO_URL": url,
        "IHP_LABEL_STUDIO_TOKEN": credentials.token,
    }


def _instructions(address: str, credentials: Credentials, keys: Sequence[tuple[str, str]]) -> str:
    parts = [f"{key.upper()} {label}" for key, label in keys]
    table = textwrap.fill("   ".join(part.replace(" ", "\0") for part in parts), 88, break_on_hyphens=False).replace(
        "\0", " "
    )
    return f"""
  address   {address}
  user      {credentials.user}
  password  {credentials.password}

  1. Open a photo. Switch on Auto-Annotation, below it, and pick the keypoint tool with the wand (key M).
  2. Press a label's key, then click on the part:
{textwrap.indent(table, "       ")}
  3. Label's key and click again where something is missing; Alt+click where it does not belong.
  4. Accept the mask with the tick below the photo, or switch on Auto-Accept Suggestions.
  5. Submit with Ctrl+Enter.

  All parts at once, without a click: in the list of photos tick some, then Actions > Retrieve Predictions.
  Inside an accepted mask, hold Ctrl while you click: without it, Label Studio selects the mask.

  Ctrl+C stops it. Nothing is lost.
"""
