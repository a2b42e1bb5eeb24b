"""``ihp preannotate``: predictions for the tasks that nobody has annotated."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
from tqdm import tqdm

from ihp_backend import logs
from ihp_backend.commands.project_access import access_to, of_project, settings_with
from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.label_studio.client import Client
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.learning.triggers import project_key
from ihp_backend.network.weights_folder import SHIPPED
from ihp_backend.serving.runtime import Runtime
from ihp_backend.serving.sdk_adapter import InteractiveHumanParsing

_TOGETHER = 8
"""Tasks that are worked on at once, at most."""
NICE = 10
_LEARNT = re.compile(r".+\+p\d+\.\d{3,}")


@click.command()
@of_project
@click.option("--batch", default=8, show_default=True, type=click.IntRange(1), help="Tasks predicted and sent at once.")
def preannotate(number: int, url: str | None, token: str | None, batch: int) -> None:
    """Predicts all tasks of a project that have no annotation, with the version that the project is served.

    Predictions of older versions are replaced; those of other models, and annotations, are not touched. Run it again
    after a stop: what is done is passed over. Sort by prediction score in Label Studio to see what teaches most first.

    \b
    ihp preannotate --project 3
    """
    try:
        settings = settings_with(url, token)
        logs.configure("WARNING")
        os.nice(NICE)  # whoever clicks goes first
        runtime = Runtime(settings)
        _, client = access_to(runtime.connection_of_number(number))
        project = client.get_project(number)
        key = project_key(project)
        model = InteractiveHumanParsing(project_id=key, label_config=project["label_config"], runtime=runtime)
        config = LabelConfig.parse(project["label_config"])
        if note := runtime.choose(key, config).note:
            click.echo(f"warning: {note}", err=True)
        version = runtime.predictor(key, config).version
        names = {version, *runtime.base.versions().values(), *(v.name for v in runtime.registry.versions(key or ""))}
        names |= {path.parent.name for path in SHIPPED.glob("*/info.json")}
        click.echo(f"project {number}: predictions of {version}, of the label set {runtime.schema(key)}")
        counts = _predict_all(client, number, model, version, names, batch, project)
    except (LabelStudioError, ValueError, RuntimeError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"{counts['made']} tasks predicted, {counts['passed over']} had predictions of {version}, "
        f"{counts['empty']} without a mask"
    )


def _predict_all(
    client: Client,
    number: int,
    model: InteractiveHumanParsing,
    version: str,
    names: Collection[str],
    batch: int,
    project: Mapping[str, Any],
) -> dict[str, int]:
    counts = {"made": 0, "passed over": 0, "empty": 0}
    total = int(project.get("task_number") or 0) - int(project.get("num_tasks_with_annotations") or 0)

    def delete_old(task: Mapping[str, Any]) -> None:
        for prediction in task.get("predictions") or []:
            old = str(prediction.get("model_version"))
            if old != version and (old in names or _LEARNT.fullmatch(old)):
                client.delete_prediction(int(prediction["id"]))

    def open_tasks() -> Iterator[dict[str, Any]]:
        for task in tqdm(client.select_tasks(number, annotated=False), total=max(0, total), unit="task"):
            if any(prediction.get("model_version") == version for prediction in task.get("predictions") or []):
                counts["passed over"] += 1
                delete_old(task)  # a stop between the two leaves both
            else:
                yield task

    for tasks in _batches(open_tasks(), batch):
        # Beside each other: photos are fetched and decoded while the network computes.
        with ThreadPoolExecutor(min(len(tasks), _TOGETHER)) as pool:
            found = list(pool.map(lambda task: model.predict([task], opened=False)[0], tasks))
        made = [(task, answer) for task, answer in zip(tasks, found, strict=True) if answer["result"]]
        counts["empty"] += len(tasks) - len(made)
        counts["made"] += len(made)
        client.import_predictions(number, [{"task": task["id"], **answer} for task, answer in made])
        for task, _ in made:
            delete_old(task)
    return counts


def _batches(tasks: Iterator[dict[str, Any]], size: int) -> Iterator[Sequence[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for task in tasks:
        batch.append(task)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
