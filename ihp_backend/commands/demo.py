"""``ihp demo``: Label Studio, the backend and photos, ready to click."""

from __future__ import annotations

import shlex
import signal
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ihp_backend.demo.photos import PhotosError, default_photos, photos_in
from ihp_backend.demo.processes import ProcessError
from ihp_backend.demo.project import (
    BackendAccess,
    connect_backend,
    demo_title,
    find_project,
    hotkeys,
    import_new,
    label_config_of,
    missing_weights,
)
from ihp_backend.demo.stack import Credentials, Stack, running
from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.parts import SCHEMAS


@dataclass(frozen=True)
class Project:
    """A project's title, and the address of its photos."""

    title: str
    address: str


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
@click.option(
    "--schema",
    type=click.Choice(list(SCHEMAS)),
    help="A project of this label set alone.  [default: one of each; with --images, lip]",
)
@click.option("--preannotate", is_flag=True, help="Opened photos start with all parts that the backend sees.")
def demo(
    images: Path | None,
    port: int,
    backend_port: int,
    data_dir: Path,
    label_studio: Path,
    schema: str | None,
    preannotate: bool,
) -> None:
    """Starts Label Studio and the backend on this machine, with a project of photos for each label set.

    Ctrl+C stops both. Everything is kept in --data-dir: the next start finds the projects, their annotations and the
    password again.
    """
    for stop in (signal.SIGINT, signal.SIGTERM):  # SIGINT, too: a shell's background job ignores it
        signal.signal(stop, signal.default_int_handler)
    try:
        data_dir = data_dir.resolve()
        chosen = [schema] if schema else ["lip"] if images else list(SCHEMAS)
        own = photos_in(images) if images else None
        photos = {name: own or default_photos(data_dir / "photos", name) for name in chosen}
        with running(
            data_dir, port=port, backend_port=backend_port, label_studio=label_studio, say=click.echo
        ) as stack:
            made = {name: _project(stack, name, photos[name], images, preannotate) for name in chosen}
            first, *others = made.values()
            keys = hotkeys(label_config_of(chosen[0]))
            click.echo(instructions(first, stack.credentials, keys, others, learning_in(stack.backend, data_dir)))
            while True:
                stack.children.check()
                time.sleep(1)
    except KeyboardInterrupt:
        click.echo("\nstopped; everything is kept for the next start")
    except (ProcessError, PhotosError, LabelStudioError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _project(stack: Stack, schema: str, photos: Sequence[Path], images: Path | None, preannotate: bool) -> Project:
    """Makes the project of a label set, or finds it; its own label config stays."""
    title = demo_title(schema, images.resolve().name if images else "")
    place = str(images.resolve()) if images else ""  # tells apart two folders of one name
    project = find_project(stack.client, title, place)
    if project is None:
        project = stack.client.create_project(title, label_config_of(schema), description=place)
    access = BackendAccess(stack.backend)
    connect_backend(stack.client, int(project["id"]), access, preannotate=preannotate)
    new = import_new(stack.client, int(project["id"]), photos)
    click.echo(f"project {title!r}: {new} new photos" if new else f"project {title!r} is as you left it")
    if missing := missing_weights(access, schema):
        click.echo(f"warning: {missing}", err=True)
    return Project(title, f"{stack.url}/projects/{project['id']}/data")


def learning_in(backend: str, data_dir: Path) -> str:
    """Returns where to look what a project has learnt: Label Studio does not tell."""
    ihp = Path(sys.executable).with_name("ihp")
    return f"{backend}/trainings\nIHP_DATA_DIR={shlex.quote(str(data_dir / 'backend'))} {ihp} versions list"


def instructions(
    project: Project,
    credentials: Credentials,
    keys: Sequence[tuple[str, str]],
    others: Sequence[Project] = (),
    learning: str = "",
) -> str:
    """Returns what the terminal says: where to click, who signs in, which keys choose a label, where learning shows."""
    more = "".join(f"\n  {other.address}   {other.title}" for other in others)
    more = f"\n  More projects, each with keys and photos of its own:{more}\n" if more else ""
    parts = [f"{key.upper()} {label}" for key, label in keys]
    table = textwrap.fill("   ".join(part.replace(" ", "\0") for part in parts), 88, break_on_hyphens=False).replace(
        "\0", " "
    )
    return f"""
  address   {project.address}
  user      {credentials.user}
  password  {credentials.password}
{more}
  1. Open a photo. Switch on Auto-Annotation, below it, then click on the wand, the last tool beside the photo: until
     then the switch keeps the keyboard.
  2. Press a label's key, then click on the part:
{textwrap.indent(table, "       ")}
  3. Label's key again: click where something is missing, Alt+click where it does not belong.
  4. Accept the mask with the tick below the photo, or switch on Auto-Accept Suggestions.
  5. Submit with Ctrl+Enter.

  All parts at once, without a click: in the list of photos tick some; the button above it is then called "2 Tasks",
  say: Retrieve Predictions > OK.
  Inside an accepted mask, hold Ctrl while you click (Ctrl+Alt to take away): without it, Label Studio selects the mask,
  and a selected mask swallows clicks until Esc.
  Your own photos: make run IMAGES=my/photos

  It learns a little from every five submitted photos, within minutes, and thoroughly when you press
  Settings > Model > ... > Start Training. Label Studio says no more than "Request Sent!"; here is what has come of it:
{textwrap.indent(learning, "    ")}

  Ctrl+C stops it. Nothing is lost.
"""
