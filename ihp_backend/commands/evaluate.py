"""``ihp evaluate``: the simulated annotator against a data set."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import click

from ihp_backend.commands.data_options import data_options, people_option
from ihp_backend.data.catalogue import open_data_set
from ihp_backend.data.sample import DataError, DataSet
from ihp_backend.evaluation.protocol import ProtocolConfig
from ihp_backend.evaluation.protocol import evaluate as run
from ihp_backend.evaluation.report import summary, write_report
from ihp_backend.experiments.simulated_interface import SessionConfig, run_session
from ihp_backend.inference.postprocess.steps import STEPS, PostprocessConfig
from ihp_backend.inference.predictor import Predictor
from ihp_backend.label_studio.config_tags import OPTIONS
from ihp_backend.network.weights import WeightsError
from ihp_backend.simulation.annotator import USERS


@click.command()
@data_options
@click.option("--split", default="val", show_default=True, help="Which photos.")
@click.option("--weights", default="lip", show_default=True, help="Name in model_weights/, or a folder.")
@click.option(
    "--user",
    type=click.Choice(USERS),
    default="center",
    show_default=True,
    help="Where the simulated annotator clicks: the centre of a part or an error, its inner half, or as people do.",
)
@click.option("--max-clicks", type=click.FloatRange(1), default=20.0, show_default=True, help="Per class.")
@click.option("--seed", default=0, show_default=True, help="Of the sloppy and the human user.")
@people_option
@click.option("--previous/--no-previous", default=True, help="Show each round the round before.")
@click.option(
    "--without",
    type=click.Choice(STEPS),
    multiple=True,
    help="Leave a step of post-processing out, to see what it is worth; may be given several times.",
)
@click.option("--session", is_flag=True, help="Also annotate through /predict, as Label Studio's interface asks.")
@click.option(
    "--refine",
    type=click.Choice(OPTIONS["refine"]),
    default="clicked",
    show_default=True,
    help="In the session: the attribute ihp_refine of the label config.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
def evaluate(
    data: Path,
    layout: str,
    images: Path | None,
    split: str,
    weights: str,
    user: str,
    max_clicks: float,
    seed: int,
    people: str,
    previous: bool,
    without: tuple[str, ...],
    session: bool,
    refine: str,
    device: str,
    out: Path,
) -> None:
    """Measures how many clicks the weights need.

    A simulated annotator clicks each part once, at its centre (or sloppily), then again and again into the largest
    error. Writes metrics.json, curve.png, per_class.csv and failures.png, the worst photos with their clicks.

    --session lets the annotator work through the real application as well, with the requests of Label Studio's
    interface, up to 3 clicks per class. Writes session.json, beside the figures of the evaluation.

    \b
    ihp evaluate --data DIR --split val --out runs/eval
    """
    try:
        photos = open_data_set(data, split, layout, images)
        predictor = Predictor.load(weights, device=device, steps=PostprocessConfig().without(*without))
        config = ProtocolConfig(
            user=user,  # type: ignore[arg-type]
            max_clicks=max_clicks,
            seed=seed,
            previous=previous,
            everyone=people == "everyone",
        )
        result = run(predictor, photos, config)
        metrics = write_report(result, photos, predictor, config, out, command=shlex.join(["ihp", *sys.argv[1:]]))
    except (DataError, WeightsError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(summary(metrics))
    if session:
        _session(
            predictor,
            photos,
            SessionConfig(user=config.user, max_clicks=min(max_clicks, 3), refine=refine, people=people, seed=seed),
            out,
        )
    click.echo(f"wrote metrics.json, curve.png, per_class.csv and failures.png to {out}")


def _session(predictor: Predictor, photos: DataSet, config: SessionConfig, out: Path) -> None:
    found = run_session(predictor, photos, config).summary()
    (out / "session.json").write_text(json.dumps(found, indent=1) + "\n")
    at = ", ".join(f"{v:.3f} at {k}" for k, v in found["miou_at_clicks_per_class"].items())
    click.echo(
        f"through /predict: mIoU {at}\n{found['clicks_per_photo']} clicks and {found['seconds_per_photo']} s a photo"
    )
