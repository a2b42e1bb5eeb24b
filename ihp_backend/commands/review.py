"""``ihp review``: the annotations that are likely wrong, first in Label Studio's list."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import click
from tqdm import tqdm

from ihp_backend import logs
from ihp_backend.commands.export import LEFT_OUT
from ihp_backend.commands.preannotate import NICE
from ihp_backend.commands.project_access import access_to, of_project, settings_with
from ihp_backend.evaluation.doubts import Doubt, doubts
from ihp_backend.inference.predictor import Predictor
from ihp_backend.label_studio.annotated_tasks import Fetch, Photos, read_tasks
from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.label_studio.client import Client
from ihp_backend.label_studio.image_decoding import ImageError
from ihp_backend.label_studio.images import fetch_or_ask
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.learning.triggers import project_key
from ihp_backend.serving.runtime import Runtime

DOUBT, REASON = "ihp_doubt", "ihp_doubt_reason"
"""The columns in Label Studio's list, keys of a task's data: 0 (surely right) to 1 (surely wrong), and why."""
TAB = "Likely wrong"
_PAGE = 20
_SHOWN = 10


@click.command()
@of_project
@click.option("--dry-run", is_flag=True, help="Only print; write nothing to Label Studio.")
def review(number: int, url: str | None, token: str | None, dry_run: bool) -> None:
    """Finds the annotations that are likely wrong: swapped labels, masks cut short or spilled over.

    Each task's newest annotation is compared with what the weights say that this project started from: they were not
    trained on any photo of it. A task gets the doubt of its most doubtful mask, 0 to 1, and the reason, as two columns
    of Label Studio's list (ihp_doubt, ihp_doubt_reason); the list gets a tab that is sorted by them. Annotations and
    predictions stay as they are.

    Labels that the weights do not know, and whose meaning was not learnt, are not judged. Run it again after
    corrections. Exit codes: 0 all tasks were judged, 3 all but those that were named, 1 it could not go on.

    \b
    ihp review --project 3
    """
    try:
        settings = settings_with(url, token)
        logs.configure("ERROR")
        os.nice(NICE)  # whoever clicks goes first
        runtime = Runtime(settings)
        connection, client = access_to(runtime.connection_of_number(number))
        project = client.get_project(number)
        key, config = project_key(project), LabelConfig.parse(project["label_config"])
        predictor = runtime.base.predictor(runtime.choose(key, config).answering)
        labels = runtime.meanings.parts(key, config.with_all_labels(), predictor.schema)
        _announce(number, predictor, labels)
        fetch = lru_cache(maxsize=2)(
            partial(fetch_or_ask, runtime.images, connection=connection, client=client)
        )  # a photo is checked, and then read
        tasks = client.select_tasks(number, annotated=True, page_size=_PAGE)
        total = int(project.get("num_tasks_with_annotations") or 0)
        left_out: list[str] = []
        found: list[tuple[Doubt, int]] = []
        for task in tqdm(tasks, total=total, desc="review", unit="task"):
            worst = _worst(task, config, labels, predictor, fetch, settings.max_image_pixels, left_out)
            if worst is not None:
                found.append((worst, int(task["id"])))
                if not dry_run:
                    _write(client, task, worst)
        if found and not dry_run and client.put_tab(number, TAB, **_sorted_by_doubt()):
            click.echo(f"the list has a tab {TAB!r} now")
    except (LabelStudioError, ValueError, RuntimeError, OSError) as error:
        raise click.ClickException(str(error)) from error
    _tell(found, left_out)
    sys.exit(LEFT_OUT if left_out else 0)


def _announce(number: int, predictor: Predictor, labels: Mapping[str, tuple[str, ...]]) -> None:
    click.echo(f"project {number}, judged by {predictor.version}")
    if unknown := [label for label, parts in labels.items() if not parts]:
        click.echo(f"note: not judged, for the weights do not know them: {', '.join(unknown):.500}", err=True)


def _worst(
    task: Mapping[str, Any],
    config: LabelConfig,
    labels: Mapping[str, tuple[str, ...]],
    predictor: Predictor,
    fetch: Fetch,
    max_pixels: int,
    left_out: list[str],
) -> Doubt | None:
    """The doubt of a task's most doubtful mask; ``None`` if it has none that can be judged."""
    reading = read_tasks([task], config, fetch, max_pixels)
    left_out += reading.left_out
    photos = Photos(reading.photos, labels, fetch, max_pixels)
    return max(_of_photos(photos, labels, predictor, left_out), key=lambda doubt: doubt.doubt, default=None)


def _of_photos(
    photos: Photos, labels: Mapping[str, tuple[str, ...]], predictor: Predictor, left_out: list[str]
) -> Iterator[Doubt]:
    for place in range(len(photos)):
        try:
            sample = photos[place]
        except ImageError as error:
            left_out.append(str(error))
            continue
        yield from doubts(predictor.open(sample.image), sample.labels, labels)


def _write(client: Client, task: Mapping[str, Any], worst: Doubt) -> None:
    """Writes the columns of a task, if they are not there already."""
    columns = {DOUBT: round(worst.doubt, 3), REASON: f"{worst.label}: {worst.reason}"}
    data = dict(task.get("data") or {})
    if {name: data.get(name) for name in columns} != columns:
        client.put_task_data(int(task["id"]), data | columns)


def _sorted_by_doubt() -> dict[str, Any]:
    column = f"tasks:data.{DOUBT}"
    return {"ordering": [f"-{column}"], "columnsDisplayType": {column: "Number"}}


def _tell(found: Sequence[tuple[Doubt, int]], left_out: Sequence[str]) -> None:
    for reason in left_out[:_SHOWN]:
        click.echo(f"left out: {reason}", err=True)
    if len(left_out) > _SHOWN:
        click.echo(f"left out: {len(left_out) - _SHOWN} more", err=True)
    click.echo(f"{len(found)} tasks judged, {len(left_out)} left out; the most doubtful ones:")
    for doubt, task in sorted(found, key=lambda pair: -pair[0].doubt)[:_SHOWN]:
        click.echo(f"  task {task}: {doubt.doubt:.3f}  {doubt.label}: {doubt.reason}")
