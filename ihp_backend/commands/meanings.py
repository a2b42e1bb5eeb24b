"""``ihp meanings``: what it is worth to read off accepted masks what a label means."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from ihp_backend.data.catalogue import open_data_set, some_photos
from ihp_backend.data.sample import DataError
from ihp_backend.experiments.active_learning import Relabelled
from ihp_backend.experiments.label_meanings import measure
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.weights import WeightsError


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder data set with LIP's classes.")
@click.option("--split", default="val", show_default=True, help="Photos that the weights were not trained on.")
@click.option(
    "--accepted", "counts", multiple=True, type=click.IntRange(0), help="Accepted photos; repeat. [default: 0, 1, 5]"
)
@click.option("--test", "tests", default=20, show_default=True, type=click.IntRange(1), help="Photos measured.")
@click.option("--max-clicks", default=8.0, show_default=True, type=click.FloatRange(2), help="Per class.")
@click.option("--weights", default="lip", show_default=True, help="Name in model_weights/, or a folder.")
def meanings(data: Path, split: str, counts: tuple[int, ...], tests: int, max_clicks: float, weights: str) -> None:
    """Measures how many clicks a project's own labels need, after photos of it were accepted, without a training.

    The labels are Outfit, Legwear, Bare skin and Head, as in `ihp rounds`. The first photos of the split are measured,
    the last ones are accepted. Prints what each label has taken, clicks per class to an mIoU of 0.85, and the mIoU.

    \b
    ihp meanings --data DIR --accepted 0 --accepted 5
    """
    try:
        found = open_data_set(data, split)
        counts = counts or (0, 1, 5)
        if len(found) < tests + max(counts):
            raise DataError(f"split {split} has {len(found)} photos; {tests + max(counts)} are needed")
        last = range(len(found) - max(counts), len(found))
        accepted, test = Relabelled(some_photos(found, last)), Relabelled(some_photos(found, range(tests)))
        worths = measure(Predictor.load(weights), accepted, test, counts, max_clicks)
    except (DataError, WeightsError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps([asdict(worth) for worth in worths], indent=1))
