"""``ihp export``: a project's annotations as a data set."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click
from tqdm import tqdm

from ihp_backend import logs
from ihp_backend.commands.project_access import NUMBERS_A_PAGE, of_project, open_project, settings_with
from ihp_backend.data.layout_writers import WRITERS
from ihp_backend.data.split import Split
from ihp_backend.files import LockedError
from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.label_studio.export_classes import Classes, classes_of
from ihp_backend.label_studio.export_folder import ExportFolder
from ihp_backend.label_studio.exporting import REPORT, Exporter, Summary
from ihp_backend.label_studio.images import ImageLoader, fetch_or_ask
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.learning.records import TrainingRecords
from ihp_backend.learning.triggers import project_key

LEFT_OUT = 3
"""Exit code where all but some tasks are there."""
_PAGE = 50
_SHOWN = 20


@click.command()
@of_project
@click.option("--layout", type=click.Choice(list(WRITERS)), default="folder", show_default=True)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@click.option("--grey", is_flag=True, help="Label images without a palette, for scripts that read them with OpenCV.")
def export(number: int, url: str | None, token: str | None, layout: str, out: Path, grey: bool) -> None:
    """Writes a project's annotations as a data set: photos, label images, splits.

    Of each task the newest annotation counts, as in training; tasks without a mask are left out. A label means the
    class that it means when it is clicked. `ihp train --data OUT --layout LAYOUT` reads what is written; coco is for
    pycocotools, with an annotation for each mask.

    Where masks overlap, the later one wins: it lies on top in Label Studio, too. Pixels without a mask are background.
    How much of both there is, and what was left out and why, is in report.csv, a row for each task.

    A task is in the split val if the project's training holds it back, else in train, and never changes side; one that
    `ihp import` made stays in its data set's split. In cihp, Human_ids and Instance_ids tell people apart where masks
    say whose they are; see docs/datasets.md.

    Run it again after a stop, or after more was annotated: only what is new or has changed is fetched and written. Exit
    codes: 0 all tasks are there, 3 all but those that were named, 1 it could not go on.

    \b
    ihp export --project 3 --layout lip --out exported
    ihp export --project 3 --layout coco --out exported-coco --url http://127.0.0.1:8080 --token TOKEN
    """
    logs.configure("WARNING")
    try:
        settings = settings_with(url, token)
        connection, client, project = open_project(settings, number)
        key = project_key(project) or str(number)
        config = LabelConfig.parse(project["label_config"])
        classes = classes_of(config.with_all_labels(), WRITERS[layout])
        _announce(number, layout, classes)
        fetch = partial(fetch_or_ask, ImageLoader(settings), connection=connection, client=client)
        with ExportFolder.opened(out, {"project": key, "layout": layout}) as folder:
            split = Split(key, folder.sides)
            split.adopt(TrainingRecords(settings.data_dir / "trainings").splits / f"{key}.json")
            exporter = Exporter(
                folder, layout, config, classes, fetch, split, max_pixels=settings.max_image_pixels, grey=grey
            )
            total = exporter.divide(client.select_tasks(number, annotated=True, page_size=NUMBERS_A_PAGE, masks=False))
            tasks = client.select_tasks(number, annotated=True, page_size=_PAGE)
            summary = exporter.run(tqdm(tasks, total=total, desc="export", unit="task"))
    except (LabelStudioError, LockedError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    _tell(summary, out)
    sys.exit(LEFT_OUT if summary.left_out else 0)


def _announce(number: int, layout: str, classes: Classes) -> None:
    click.echo(f"project {number} in the layout {layout}: {len(classes.schema) - 1} classes and the background")
    for note in classes.notes:
        click.echo(f"note: {note}", err=True)


def _tell(summary: Summary, out: Path) -> None:
    for reason in summary.left_out[:_SHOWN]:
        click.echo(f"left out: {reason}", err=True)
    if len(summary.left_out) > _SHOWN:
        click.echo(f"left out: {len(summary.left_out) - _SHOWN} more, see {REPORT}", err=True)
    lines = {
        "overlapping_pixels": "pixels of several masks in {tasks} tasks; the later mask wins",
        "gap_pixels": "pixels without a mask, enclosed by masks, in {tasks} tasks; they are background",
        "pixels_without_class": "pixels in {tasks} tasks that only labels without a class cover",
        "masks_without_person": "masks in {tasks} tasks that do not say whose they are",
    }
    for column, line in lines.items():
        total, tasks = summary.total(column)
        if total:
            click.echo(f"{total} {line.format(tasks=tasks)}")
    if others := sum(bool(row.get("not_exported")) for row in summary.rows):
        click.echo(f"{others} tasks have regions that are no masks of this project's labels: not exported")
    splits = ", ".join(f"{count} in {split}" for split, count in summary.splits.items()) or "no photo"
    done = f"{summary.written} tasks written, {summary.kept} were there"
    removed = f", {summary.removed} removed: they are not annotated any more" if summary.removed else ""
    click.echo(f"{done}{removed}, {len(summary.left_out)} left out; {splits}; a row for each in {out / REPORT}")
