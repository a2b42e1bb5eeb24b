"""``ihp wrong-labels``: how well `ihp review` finds labels that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ihp_backend.data.catalogue import first_photos, open_data_set
from ihp_backend.data.sample import DataError
from ihp_backend.evaluation.doubts import MISSING
from ihp_backend.experiments.wrong_labels import measure, summary
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.weights import WeightsError


@click.command("wrong-labels")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option("--images", type=click.Path(file_okay=False, path_type=Path), help="Its photos, if not in DIR/images.")
@click.option("--split", default="val", show_default=True, help="Photos that the weights were not trained on.")
@click.option("--photos", type=click.IntRange(1), help="Only the first so many.")
@click.option("--share", default=0.05, show_default=True, type=click.FloatRange(0, 1), help="Of the masks made wrong.")
@click.option("--seed", default=0, show_default=True, help="Decides which, and how.")
@click.option(
    "--missing",
    default=MISSING,
    show_default=True,
    type=click.FloatRange(0),
    help="How much it counts that more of a label is seen beside its mask.",
)
@click.option("--weights", default="lip", show_default=True, help="Name in model_weights/, or a folder.")
def wrong_labels(
    data: Path,
    images: Path | None,
    split: str,
    photos: int | None,
    share: float,
    seed: int,
    missing: float,
    weights: str,
) -> None:
    """Measures how many wrong labels are among those that `ihp review` shows first.

    Some masks of each photo are made wrong: half of them get the label of a part that the photo does not show, the
    others are cut along a straight line. Prints precision and recall among the most doubtful masks and photos as JSON.

    \b
    ihp wrong-labels --data DIR --split val
    """
    try:
        found = open_data_set(data, split, images=images)
        predictor = Predictor.load(weights)
        chosen = first_photos(found, photos) if photos else found
        judged = measure(predictor, chosen, share=share, seed=seed, missing=missing)
    except (DataError, WeightsError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(summary(judged), indent=1))
