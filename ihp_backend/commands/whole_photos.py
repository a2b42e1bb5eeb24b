"""``ihp whole-photos``: what a photo costs an annotator, from nothing and from predictions."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ihp_backend.commands.data_options import data_options, people_option
from ihp_backend.data.catalogue import open_data_set, some_photos
from ihp_backend.data.sample import DataError
from ihp_backend.experiments.simulated_interface import SessionConfig
from ihp_backend.experiments.whole_photos import summary, whole_photos
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.weights import WeightsError
from ihp_backend.simulation.annotator import USERS


@click.command("whole-photos")
@data_options
@click.option("--split", default="val", show_default=True, help="Photos that the weights were not trained on.")
@click.option("--photos", type=click.IntRange(1), help="The first so many of them; by default, all.")
@click.option("--weights", default="lip", show_default=True, help="Name in model_weights/, or a folder.")
@click.option("--user", type=click.Choice(USERS), default="human", show_default=True, help="How the annotator clicks.")
@people_option
@click.option("--enough", default=0.85, show_default=True, type=click.FloatRange(0, 1), help="Mean IoU of a photo.")
@click.option("--max-clicks", default=3.0, show_default=True, type=click.FloatRange(1), help="Per class.")
def whole_photos_command(
    data: Path,
    layout: str,
    images: Path | None,
    split: str,
    photos: int | None,
    weights: str,
    user: str,
    people: str,
    enough: float,
    max_clicks: float,
) -> None:
    """Counts clicks, keys and seconds until a photo is right, through the application as Label Studio asks it.

    Each part is clicked once; from predictions, only those whose mask is less than right. Then the largest error,
    until the photo's mean IoU is enough. The annotator's seconds are those of the keystroke-level model: 0.28 for a
    key, 1.3 to point and click, 1.35 to see what to do next; 0.24 a click for Label Studio's page; the answers' are
    measured.

    \b
    ihp whole-photos --data DIR --photos 20
    """
    try:
        found = open_data_set(data, split, layout, images)
        found = some_photos(found, range(min(len(found), photos or len(found))))
        predictor = Predictor.load(weights)
        config = SessionConfig(user=user, people=people, max_clicks=max_clicks)  # type: ignore[arg-type]
        costs = {
            start: summary(whole_photos(predictor, found, start, enough=enough, config=config))
            for start in ("nothing", "predictions")
        }
    except (DataError, WeightsError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(costs, indent=1))
