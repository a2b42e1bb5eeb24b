"""``ihp train``: a parser from labelled photos, with simulated clicks."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
from safetensors import SafetensorError

from ihp_backend import logs
from ihp_backend.commands.data_options import data_options
from ihp_backend.data.catalogue import first_photos, open_data_set, spread_photos
from ihp_backend.data.files import read_text
from ihp_backend.data.mixture import Mixture
from ihp_backend.data.sample import DataError, DataSet
from ihp_backend.evaluation.metrics import mean_iou
from ihp_backend.evaluation.protocol import ProtocolConfig, evaluate
from ihp_backend.inference.predictor import Predictor, find_device
from ihp_backend.network.parser import HumanParser
from ihp_backend.network.weights import WeightsError, load_parser, save_parser
from ihp_backend.training.calibration import calibrated
from ihp_backend.training.config import TrainConfig
from ihp_backend.training.curves import draw_curves
from ihp_backend.training.processes import joined_processes
from ihp_backend.training.run_folder import TrainerError
from ihp_backend.training.trainer import Trainer

logger = logging.getLogger(__name__)


@click.command()
@data_options
@click.option(
    "--also",
    multiple=True,
    metavar="LAYOUT:DIR:SHARE",
    help="Further data of the same classes, and the share of the views that it gets, such as rendered-lip:DIR:0.4.",
)
@click.option("--split", default="train", show_default=True, help="Photos to train on.")
@click.option("--val-split", default="val", show_default=True, help="Photos that pick the best checkpoint.")
@click.option("--val-photos", default=40, show_default=True, help="At most so many of them.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the run.")
@click.option("--config", "config_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--init", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Start weights.")
@click.option(
    "--forget-clicks",
    is_flag=True,
    help="Take of --init only what it does with the image: a network with other components learns clicks anew.",
)
@click.option("--steps", type=click.IntRange(1), help="Instead of the configuration's.")
@click.option("--until", type=click.IntRange(1), help="Stop at this step of the schedule.")
@click.option("--seed", type=int, help="Instead of the configuration's.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto.")
@click.option("--workers", default=0, show_default=True, type=click.IntRange(0), help="Processes that make batches.")
@click.option("--calibrate", default=200, show_default=True, help="Training photos that set the classes' biases.")
@click.option("--version", help="What predictions of the result call it; by default, the label set's name.")
def train(
    data: Path,
    layout: str,
    images: Path | None,
    also: tuple[str, ...],
    split: str,
    val_split: str,
    val_photos: int,
    out: Path,
    config_file: Path | None,
    init: Path | None,
    forget_clicks: bool,
    steps: int | None,
    until: int | None,
    seed: int | None,
    device: str,
    workers: int,
    calibrate: int,
    version: str | None,
) -> None:
    """Trains with simulated clicks; run the same command again to go on after a stop.

    OUT/best holds the weights that need the fewest clicks on the validation photos, ready for --weights.
    At the end --calibrate training photos set how readily each class is predicted where nothing is clicked.
    OUT/log.csv and OUT/curves.png show the way there. --config is a JSON file with any of the options that
    OUT/config.json lists, such as {"steps": 9000, "parser": {"early_fusion": false}}.

    Under torchrun several processes, on one machine or many, share each batch. One that was stopped may go on with
    another number of processes or workers. Each process starts so many --workers; without, a thread makes the batches.

    \b
    ihp train --data DIR --init backbone.safetensors --out runs/lip
    torchrun --nproc-per-node=4 -m ihp_backend train --data DIR --out runs/lip --workers 4
    """
    try:
        with joined_processes(find_device(device)) as (processes, own_device):
            logs.configure("INFO" if processes.is_first else "WARNING")
            config = read_config(config_file) if config_file else TrainConfig()
            config = replace(config, steps=steps or config.steps, seed=config.seed if seed is None else seed)
            photos = mixed(open_data_set(data, split, layout, images), also, split)
            unseen = first_photos(open_data_set(data, val_split, layout, images), val_photos)
            config = replace(config, parser=config.parser.of(photos.schema))

            def validate(parser: HumanParser) -> dict[str, float]:
                found = evaluate(Predictor(parser, device=own_device), unseen, ProtocolConfig(max_clicks=2))
                scores = {f"miou_at_{b:g}": mean_iou(m) for b, m in found.confusions.items() if b in (0, 1, 2)}
                return {"score": scores["miou_at_2"], **scores}

            info = {"version": version or photos.schema.name, "command": shlex.join(["ihp", *sys.argv[1:]])}
            trainer = Trainer(
                config,
                photos,
                out,
                validate=validate,
                start=init,
                forget_clicks=forget_clicks,
                device=own_device,
                info=info,
                processes=processes,
                workers=workers,
            )
            trainer.run(until)
            if not processes.is_first:
                return
            if calibrate and (until is None or until >= config.steps):
                parser, kept = load_parser(out / "best")
                save_parser(calibrated(parser, spread_photos(photos, calibrate), device=own_device), out / "best", kept)
            draw_curves(out / "log.csv", out / "curves.png")
    except (DataError, TrainerError, WeightsError, SafetensorError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"best mIoU at 2 clicks per class: {trainer.best:.4f}; weights in {out / 'best'}")


def mixed(data: DataSet, also: Sequence[str], split: str) -> DataSet:
    """Adds further data sets to the first one, which gets the rest of the views.

    Args:
        data: The first data set.
        also: ``LAYOUT:DIR:SHARE`` of each further one.
        split: Of all of them.

    Raises:
        DataError: If one is not written so, cannot be opened, or nothing is left for the first.
    """
    if not also:
        return data
    sets, shares = [data], [1.0]
    for text in also:
        layout, _, rest = text.partition(":")
        folder, _, share = rest.rpartition(":")
        try:
            shares.append(float(share))
        except ValueError as error:
            raise DataError(f"--also {text!r}: expected LAYOUT:DIR:SHARE, such as rendered-lip:people:0.4") from error
        sets.append(open_data_set(Path(folder), split, layout))
    shares[0] -= sum(shares[1:])
    return Mixture(sets, shares)


def read_config(path: Path) -> TrainConfig:
    """Reads a configuration from a JSON file.

    Raises:
        ValueError: If it is not one; the message says what is wrong.
    """
    try:
        fields = json.loads(read_text(path))
    except DataError:
        raise
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} is a JSON {type(fields).__name__}; expected an object of options")
    try:
        return TrainConfig.from_dict(fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
