"""``ihp thresholds``: what the numbers in the path of a click are worth."""

from __future__ import annotations

from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import click
from tqdm import tqdm

from ihp_backend.commands.data_options import data_options
from ihp_backend.data.catalogue import first_photos, open_data_set
from ihp_backend.data.sample import DataError
from ihp_backend.evaluation.protocol import ProtocolConfig
from ihp_backend.experiments.thresholds import BUDGETS, effects, thresholds
from ihp_backend.inference.postprocess.steps import PostprocessConfig
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.weights import WeightsError


@click.command("thresholds")
@data_options
@click.option("--split", default="val", show_default=True, help="Photos that the weights were not trained on.")
@click.option("--photos", type=click.IntRange(1), help="Only the first so many.")
@click.option("--weights", default="lip", show_default=True, help="Name in model_weights/, or a folder.")
@click.option(
    "--people", type=click.Choice(("one", "everyone")), default="one", show_default=True, help="Whom a click means."
)
@click.option("--only", multiple=True, help="Names, such as people.near or 'roi.*'; repeatable.  [default: all]")
def thresholds_command(
    data: Path,
    layout: str,
    images: Path | None,
    split: str,
    photos: int | None,
    weights: str,
    people: str,
    only: tuple[str, ...],
) -> None:
    """Measures each number that an answer depends on at nothing, at a half and at twice of what it is.

    Prints a table: by how many points of mIoU the other value is better (+) or worse, after 0, 1, 1.5 and 2 clicks per
    class. A number of which no other value is worse is worth nothing on these photos.

    \b
    ihp thresholds --data DIR --photos 20 --only 'people.*'
    """
    chosen = [t for t in thresholds() if not only or any(fnmatch(t.name, pattern) for pattern in only)]
    if not chosen:
        raise click.UsageError(f"--only names none of: {', '.join(t.name for t in thresholds())}")
    try:
        found = open_data_set(data, split, layout, images)
        measured = first_photos(found, photos) if photos else found
        load: partial[Predictor] = partial(_load, weights)
        config = ProtocolConfig(everyone=people == "everyone")
        click.echo("| threshold | is | tried | " + " | ".join(f"{budget:g}" for budget in BUDGETS) + " |")
        click.echo("|---|---:|---:|" + "---:|" * len(BUDGETS))
        for effect in effects(load, measured, config, chosen):
            points = [f"{change:+.1f}" for change in effect.points] or ["impossible", *[""] * (len(BUDGETS) - 1)]
            tqdm.write(f"| `{effect.name}` | {effect.value:g} | {effect.tried:g} | {' | '.join(points)} |")
    except (DataError, WeightsError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _load(weights: str, steps: PostprocessConfig) -> Predictor:
    return Predictor.load(weights, steps=steps)
