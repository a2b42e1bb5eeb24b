"""``ihp predict``: one photo, some clicks, masks in files."""

from __future__ import annotations

import json
from pathlib import Path

import click
import cv2
import numpy as np

from ihp_backend.clicks import Click
from ihp_backend.demo.project import label_config_of
from ihp_backend.geometry import box_of
from ihp_backend.inference.overlay import draw_overlay, label_colour
from ihp_backend.inference.predictor import Predictor
from ihp_backend.label_studio.images import ImageError, decode_image
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.label_studio.regions import mask_regions
from ihp_backend.network.weights import WeightsError
from ihp_backend.parts import SCHEMAS, Schema, normalise

_MAX_PIXELS = 200_000_000


@click.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--click",
    "clicks",
    multiple=True,
    metavar="PART,X,Y",
    help="A click: part and pixel, such as face,210,88. -PART,X,Y is a negative one. Repeat for more.",
)
@click.option("--schema", type=click.Choice(list(SCHEMAS)), help="Label set whose weights answer.  [default: lip]")
@click.option("--weights", help="Other weights: a name in model_weights/, or a folder.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto.")
@click.option("--all", "every", is_flag=True, help="Answer every part that is seen, not only the clicked ones.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
def predict(
    image: Path,
    clicks: tuple[str, ...],
    schema: str | None,
    weights: str | None,
    device: str,
    every: bool,
    out: Path,
) -> None:
    """Cuts the clicked parts out of a photo; without clicks, every part that is seen.

    Writes PART.png (0 and 255) for each part, overlay.png to look at, and regions.json: a task as Label Studio
    imports it into a project with the label config of these weights' schema, with each part's score, area and box
    under "meta".

    \b
    ihp predict photo.jpg --out masks
    ihp predict photo.jpg --click face,210,88 --click left-arm,160,300 --out masks
    ihp predict photo.jpg --schema helen --click left-eye,230,80 --out masks

    A part that the schema does not know works, too: its clicks alone define it.
    """
    try:
        rgb = decode_image(image.read_bytes(), max_pixels=_MAX_PIXELS)
        predictor = Predictor.load(weights or schema or "lip", device=device)
        if schema not in (None, predictor.config.schema):
            raise click.UsageError(
                f"--weights {weights} are of the label set {predictor.config.schema}, not of --schema {schema}: give "
                "one of the two"
            )
        height, width = rgb.shape[:2]
        points = [_read_click(text, predictor, height, width) for text in clicks]
        out.mkdir(parents=True, exist_ok=True)
    except (ImageError, WeightsError, OSError) as error:
        raise click.ClickException(str(error)) from error
    labels: dict[str, tuple[str, ...]] = {name: (name,) for name in predictor.schema.names}
    labels |= {c.part: () for c in points if c.part not in labels}
    wanted = None if every or not points else list(dict.fromkeys(c.part for c in points))
    prediction = predictor.predict(rgb, points, labels=labels, wanted=wanted)

    config, names = shipped_config(predictor.schema)
    regions, results = [], []
    for label, mask in prediction.masks.items():
        box = box_of(mask)
        if box is None:  # its clicks were all negative
            continue
        cv2.imwrite(str(out / f"{label}.png"), mask.astype(np.uint8) * 255)
        (region,) = mask_regions(mask, names.get(label, label), prediction.scores[label], config)
        regions.append(
            {
                "label": label,
                "score": round(prediction.scores[label], 4),
                "area_px": int(mask.sum()),
                "box_px": [box.left, box.top, box.right, box.bottom],
            }
        )
        results.append(region)
        click.echo(f"{label:14s} score {prediction.scores[label]:.2f}  {int(mask.sum()):8d} px")
    found = {"model_version": predictor.version, "score": prediction.score, "result": results}
    task = {"data": {"image": image.name}, "predictions": [found], "meta": {"regions": regions}}
    (out / "regions.json").write_text(json.dumps([task]))
    colours = {label: label_colour(label, predictor.schema) for label in labels}
    overlay = draw_overlay(rgb, prediction.masks, colours, points)
    cv2.imwrite(str(out / "overlay.png"), overlay[..., ::-1])
    click.echo(f"wrote {len(regions)} masks, regions.json and overlay.png to {out}")


def shipped_config(schema: Schema) -> tuple[LabelConfig, dict[str, str]]:
    """The label config that is shipped for a schema, and for each part its label there."""
    try:
        config = LabelConfig.parse(label_config_of(schema.name))
    except (ValueError, OSError):  # an open schema has none
        tags = tuple(schema.names[1:])
        config = LabelConfig("image", "$image", "click", "mask", tags, ((),) * len(tags))
    return config, {part: label for label, parts in config.parts(schema).items() for part in parts}


def _read_click(text: str, predictor: Predictor, height: int, width: int) -> Click:
    positive = not text.startswith("-")
    name, _, place = text.removeprefix("-").partition(",")
    try:
        x, y = (float(number) for number in place.split(","))
    except ValueError:
        raise click.UsageError(f"--click {text!r}: expected PART,X,Y in pixels, such as face,210,88") from None
    if not (0 <= x <= width and 0 <= y <= height):  # NaN fails, too
        raise click.UsageError(f"--click {text!r} is outside the photo, which is {width}x{height} pixels")
    known = {normalise(n): n for n in predictor.schema.names}
    part = predictor.schema.find(name)
    if not normalise(name) or name.startswith(".") or any(c in name for c in "/\\\0") or name == "overlay":
        raise click.UsageError(f"--click {text!r}: expected a part's name; the schema has {', '.join(known.values())}")
    return Click(x, y, name if part is None else predictor.schema.names[part], positive)
