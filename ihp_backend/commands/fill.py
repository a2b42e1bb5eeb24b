"""``ihp fill``: training data from photos of which only the outline of the people is known."""

from __future__ import annotations

import json
from pathlib import Path

import click
import cv2
from tqdm import tqdm

from ihp_backend.data.catalogue import open_data_set
from ihp_backend.data.folder import describe_classes
from ihp_backend.data.sample import DataError, reduced
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.weights import WeightsError
from ihp_backend.parts import Schema
from ihp_backend.training.outlines import fill_outline


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder data set with people/.")
@click.option("--split", default="train", show_default=True)
@click.option("--weights", default="lip", show_default=True, help="A name in model_weights/, or a folder.")
@click.option("--part", "parts", multiple=True, required=True, help="A part that may be inside. Repeat for more.")
@click.option(
    "--same",
    multiple=True,
    metavar="PART=CLASS,CLASS",
    help="Classes of the data that are this part, such as face=nose,left-eye. Repeat for more.",
)
@click.option("--longest", type=click.IntRange(64), default=600, show_default=True, help="Longer side of the photos.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
def fill(
    data: Path,
    split: str,
    weights: str,
    parts: tuple[str, ...],
    same: tuple[str, ...],
    longest: int,
    device: str,
    out: Path,
) -> None:
    """Labels people of known outline with the parts that the weights see in them.

    The data has the opacity of its people (people/NAME.png) and maybe some classes, such as those of a face. Inside of
    the outline the weights choose among the parts that are named; outside is background. Writes a folder data set in
    the weights' classes, with people/, and with the data's own classes as objects/. Look at it before you train on it.

    \b
    ihp fill --data faces --weights cihp --part coat --part upper-clothes --same hair=hair --out portraits
    """
    try:
        photos = open_data_set(data, split)
        predictor = Predictor.load(weights, device=device)
        known = _known(same, photos.schema)
        for folder in ("images", "labels", "people", "objects", "splits"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        for index in tqdm(range(len(photos)), desc="fill", unit="photo"):
            sample = reduced(photos[index], longest)
            filled = fill_outline(sample, predictor, parts, known)
            assert filled.alpha is not None
            objects = sample.labels * (sample.labels < len(photos.schema))
            _write(out / "images" / f"{sample.name}.jpg", cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR))
            for folder, array in (("labels", filled.labels), ("people", filled.alpha), ("objects", objects)):
                _write(out / folder / f"{sample.name}.png", array)
        (out / "splits" / f"{split}.txt").write_text("\n".join(photos.names) + "\n")
        (out / "classes.json").write_text(json.dumps(describe_classes(predictor.schema), indent=1) + "\n")
    except (DataError, WeightsError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{len(photos)} photos in {out}")


def _known(same: tuple[str, ...], schema: Schema) -> dict[int, str]:
    known = {}
    for text in same:
        part, _, classes = text.partition("=")
        for name in classes.split(","):
            if name not in schema.names:
                raise ValueError(f"--same {text!r}: {name!r} is no class of the data; it has {', '.join(schema.names)}")
            known[schema.names.index(name)] = part
    return known


def _write(path: Path, array: cv2.typing.MatLike) -> None:
    if not cv2.imwrite(str(path), array, [cv2.IMWRITE_JPEG_QUALITY, 92]):
        raise OSError(f"{path} cannot be written: is the disk full, or the name no file name?")
