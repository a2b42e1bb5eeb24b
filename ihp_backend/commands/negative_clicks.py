"""``ihp negative-clicks``: what an Alt+click takes away."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ihp_backend.data.catalogue import first_photos, open_data_set
from ihp_backend.data.sample import DataError
from ihp_backend.experiments.negative_clicks import measure, summary
from ihp_backend.inference.postprocess.steps import STEPS, PostprocessConfig
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.weights import WeightsError


@click.command("negative-clicks")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option("--images", type=click.Path(file_okay=False, path_type=Path), help="Its photos, if not in DIR/images.")
@click.option("--split", default="val", show_default=True, help="Which photos.")
@click.option("--photos", type=click.IntRange(1), help="Only the first so many.")
@click.option("--weights", default="lip", show_default=True, help="Name in model_weights/, or a folder.")
@click.option("--own-labels", is_flag=True, help="Only the data's labels that the weights do not know.")
@click.option("--without", type=click.Choice(STEPS), multiple=True, help="Leave a step of post-processing out.")
def negative_clicks(
    data: Path,
    images: Path | None,
    split: str,
    photos: int | None,
    weights: str,
    own_labels: bool,
    without: tuple[str, ...],
) -> None:
    """Measures how much of a wrong piece one negative click takes away, and how much of what was right.

    Each part of each photo is clicked once, at its centre; then each wrong piece of the mask, in its middle, one piece
    at a time. Prints medians and quartiles over all pieces as JSON.

    \b
    ihp negative-clicks --data DIR --split val
    """
    try:
        found = open_data_set(data, split, images=images)
        predictor = Predictor.load(weights, steps=PostprocessConfig().without(*without))
        clicks = measure(predictor, first_photos(found, photos) if photos else found, own_labels=own_labels)
    except (DataError, WeightsError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(summary(clicks), indent=1))
