"""``ihp demo``: Label Studio, the backend and photos, ready to click."""

from __future__ import annotations

import signal
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import click

from ihp_backend.demo.photos import PhotosError, default_photos, photos_in
from ihp_backend.demo.processes import ProcessError
from ihp_backend.demo.project import (
    BackendAccess,
    connect_backend,
    find_project,
    hotkeys,
    import_new,
    label_config_of,
)
from ihp_backend.demo.stack import Credentials, running
from ihp_backend.label_studio.client import LabelStudioError


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
    for stop in (signal.SIGINT, signal.SIGTERM):  # SIGINT, too: a shell's background job ignores it
        signal.signal(stop, signal.default_int_handler)
    try:
        data_dir = data_dir.resolve()
        photos = photos_in(images) if images else default_photos(data_dir / "photos")
        title = f"Human parsing: {images.resolve().name}" if images else "Human parsing"
        place = str(images.resolve()) if images else ""  # tells apart two folders of one name
        config = label_config_of(schema)
        with running(
            data_dir, port=port, backend_port=backend_port, label_studio=label_studio, say=click.echo
        ) as stack:
            project = find_project(stack.client, title, place)
            if project is None:
                project = stack.client.create_project(title[:50], config, description=place)
            elif schema != "lip":
                click.echo(f"project {title!r} keeps its label config; --schema is for a new one")
            number = int(project["id"])
            connect_backend(stack.client, number, BackendAccess(stack.backend), preannotate=preannotate)
            made = import_new(stack.client, number, photos)
            click.echo(f"project {title!r}: {made} new photos" if made else f"project {title!r} is as you left it")
            address = f"{stack.url}/projects/{number}/data"
            click.echo(_instructions(address, stack.credentials, hotkeys(project["label_config"])))
            while True:
                stack.children.check()
                time.sleep(1)
    except KeyboardInterrupt:
        click.echo("\nstopped; everything is kept for the next start")
    except (ProcessError, PhotosError, LabelStudioError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error


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
