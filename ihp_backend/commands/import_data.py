"""``ihp import``: an existing data set as tasks of a project, to be corrected by clicks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from tqdm import tqdm

from ihp_backend import logs
from ihp_backend.commands.project_access import NUMBERS_A_PAGE, of_project, open_project, settings_with
from ihp_backend.data.catalogue import LAYOUTS
from ihp_backend.data.sample import DataError
from ihp_backend.files import LockedError, locked
from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.label_studio.connections import Connection
from ihp_backend.label_studio.images import ImageError, ImageLoader
from ihp_backend.label_studio.import_classes import Matching, match_classes
from ihp_backend.label_studio.importing import Importer, Item, Kind, check, items_of, new_items, open_splits
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.learning.triggers import project_key
from ihp_backend.parts import Schema
from ihp_backend.settings import Settings


@click.command("import")
@of_project
@click.option("--data", required=True, type=click.Path(path_type=Path), help="The data set's folder.")
@click.option("--layout", type=click.Choice(list(LAYOUTS)), default="folder", show_default=True)
@click.option("--split", "splits", multiple=True, help="A split. Repeat for more.  [default: all that are there]")
@click.option(
    "--as",
    "kind",
    type=click.Choice(["predictions", "annotations"]),
    default="predictions",
    show_default=True,
    help="Predictions are suggestions until somebody submits them; annotations count at once, for training too.",
)
@click.option("--without", multiple=True, metavar="CLASS", help="Import no masks of this class. Repeat for more.")
@click.option(
    "--photos-at",
    metavar="PREFIX",
    help="Photos are there already and are not uploaded: PREFIX and a photo's path in the data set are its address.",
)
def import_data(
    number: int,
    url: str | None,
    token: str | None,
    data: Path,
    layout: str,
    splits: tuple[str, ...],
    kind: Kind,
    without: tuple[str, ...],
    photos_at: str | None,
) -> None:
    """Makes tasks of a data set's photos, with its masks, to be corrected by clicks.

    Each class becomes the label of the project that means it when it is clicked: by predicted_values, name or alias. A
    class that no label means stops the import before anything is written; --without leaves it out. So does a file that
    cannot be read: the message names it. Photos are uploaded, or stay where they are (--photos-at).

    A task's data keeps the photo's name and split (ihp_name, ihp_split), which `ihp export` gives back. Run it again
    after a stop: what is there already is passed over, and no task comes twice.

    \b
    ihp import --data LIP --layout lip --split val --project 3
    ihp import --data mine --project 3 --as annotations
    ihp import --data /photos/mine --project 3 --photos-at "/data/local-files/?d=mine/"
    """
    logs.configure("WARNING")
    try:
        settings = settings_with(url, token)
        connection, client, project = open_project(settings, number)
        config = LabelConfig.parse(project["label_config"])
        with locked(settings.data_dir / "imports" / f"{project_key(project) or number}.lock", wait=False):
            opened, notes = open_splits(data, layout, splits)
            for note in notes:
                click.echo(f"note: {note}", err=True)
            items = items_of(opened)
            tasks = client.select_tasks(number, annotated=None, page_size=NUMBERS_A_PAGE, masks=False)
            new = new_items(items, tasks)
            schema = next(iter(opened.values())).schema
            occurring = check(tqdm(new, desc="check", unit="photo"))
            matching = _matched(config, schema, occurring, without)
            if other := sorted({view.image for view in config.others} - {config.image}):
                click.echo(f"note: tasks get a photo for {config.image} alone, none for {', '.join(other)}", err=True)
            importer = Importer(client, number, config, matching.ids_of, kind, data, photos_at)
            if photos_at and new:
                _try(importer, new[0], settings, connection)
            with tqdm(total=len(new), desc="import", unit="photo") as progress:
                for made in importer.run(new):
                    progress.update(made)
    except (LabelStudioError, LockedError, DataError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{len(new)} tasks made with their masks as {kind}, {len(items) - len(new)} were there")


def _matched(config: LabelConfig, schema: Schema, occurring: set[int], without: Sequence[str]) -> Matching:
    """Matches classes to labels, tells how, and refuses what would be lost without a word."""
    dropped = {schema.find(name) for name in without}
    if None in dropped:
        raise DataError(f"--without {' '.join(without)}: the classes are {', '.join(schema.names[1:])}")
    matching = match_classes(config, schema, occurring - dropped)
    if matching.unmatched:
        names = ", ".join(matching.unmatched)
        raise DataError(
            f"no label of the project means {names} (its labels are {', '.join(config.labels):.500}); give a label "
            f'predicted_values="{matching.unmatched[0]}" in the label config, or leave them out: '
            + " ".join(f"--without {name!r}" for name in matching.unmatched)
        )
    pairs = (f"{label} ({', '.join(schema.names[i] for i in ids)})" for label, ids in matching.ids_of.items())
    if matching.ids_of:
        click.echo(f"labels and the classes they get: {'; '.join(pairs)}")
    return matching


def _try(importer: Importer, item: Item, settings: Settings, connection: Connection) -> None:
    """Fetches one photo from where it is said to be: if that is wrong, it is for all."""
    address = importer.address(item)
    try:
        found = ImageLoader(settings).fetch(
            address, hostname=connection.hostname, token=connection.token, told=connection.told
        )
    except ImageError as error:
        raise DataError(f"--photos-at: {error}; nothing was imported") from error
    if found != item.path.read_bytes():
        raise DataError(f"--photos-at: {address} is another file than {item.path}; nothing was imported")
