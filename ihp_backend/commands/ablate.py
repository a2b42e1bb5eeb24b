"""``ihp ablate``: what each part of the method is worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from ihp_backend import logs
from ihp_backend.commands.train import read_config
from ihp_backend.data.catalogue import LAYOUTS, first_photos, open_data_set
from ihp_backend.data.sample import DataError
from ihp_backend.evaluation.metrics import mean_iou
from ihp_backend.evaluation.protocol import ProtocolConfig, evaluate
from ihp_backend.experiments.ablation import ROWS, table
from ihp_backend.experiments.ablation import ablate as run
from ihp_backend.inference.predictor import Predictor, find_device
from ihp_backend.network.parser import HumanParser
from ihp_backend.training.config import TrainConfig
from ihp_backend.training.run_folder import TrainerError

_BUDGETS = (0.0, 1.0, 2.0, 3.0)


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option("--layout", type=click.Choice(list(LAYOUTS)), default="folder", show_default=True)
@click.option("--val-photos", default=100, show_default=True, help="At most so many photos of the split val.")
@click.option(
    "--init",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Start weights: a backbone's or a parser's.",
)
@click.option("--config", "config_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--steps", type=click.IntRange(1), help="Budget of each row.")
@click.option("--area", type=click.IntRange(1024), help="Working size in pixels, height times width.")
@click.option("--row", "rows", multiple=True, type=click.Choice(list(ROWS)), help="Only this row; repeat for more.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the runs.")
def ablate(
    data: Path,
    layout: str,
    val_photos: int,
    init: Path | None,
    config_file: Path | None,
    steps: int | None,
    area: int | None,
    rows: tuple[str, ...],
    out: Path,
) -> None:
    """Trains once for each part of the method, with an equal budget, and writes the table.

    Started from a parser's weights, each row forgets what they do with clicks and learns it anew: so a small budget
    shows what each part of the method makes of clicks. Run the same command again to go on after a stop; finished rows
    are kept.

    \b
    ihp ablate --data DIR --init model_weights/lip/model.safetensors --config docs/ablation.json --out runs/ablation
    """
    logs.configure("INFO")
    try:
        config = read_config(config_file) if config_file else TrainConfig()
        photos = open_data_set(data, "train", layout)
        unseen = first_photos(open_data_set(data, "val", layout), val_photos)
        parser = replace(config.parser.of(photos.schema), area=area or config.parser.area)
        config = replace(config, steps=steps or config.steps, parser=parser)
        device = find_device("auto")

        def measure(parser: HumanParser) -> dict[str, float]:
            predictor = Predictor(parser, device=device)
            found = evaluate(predictor, unseen, ProtocolConfig(max_clicks=max(_BUDGETS)))
            return {f"{b:g} clicks": round(mean_iou(found.confusions[b]), 4) for b in _BUDGETS} | {
                "presence only": round(mean_iou(found.presence_only), 4)
            }

        seen = f"{len(unseen)} photos of {data.name}"
        found = run(config, photos, out, measure, start=init, device=device, rows=rows or None, measured_on=seen)
    except (DataError, TrainerError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(table(found))
    click.echo(f"mIoU by clicks per class on {len(unseen)} photos; written to {out / 'ablation.md'}")
