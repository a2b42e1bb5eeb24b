"""``ihp rounds``: how many clicks learning saves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from ihp_backend.data.catalogue import open_data_set, some_photos
from ihp_backend.data.sample import DataError
from ihp_backend.demo.processes import ProcessError
from ihp_backend.demo.stack import running
from ihp_backend.experiments.active_learning import Annotators, Relabelled, measure, run
from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.learning.registry import BASE, Registry
from ihp_backend.network.weights_folder import find_weights, version_of


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder data set with LIP's classes.")
@click.option("--split", default="val", show_default=True, help="Photos that the weights were not trained on.")
@click.option("--rounds", "count", default=5, show_default=True, type=click.IntRange(1))
@click.option("--photos", default=10, show_default=True, type=click.IntRange(2), help="Annotated in each round.")
@click.option("--test", "tests", default=20, show_default=True, type=click.IntRange(1), help="Photos measured.")
@click.option(
    "--weights", default="lip", show_default=True, help="Base weights: a name in model_weights/, or a folder."
)
@click.option("--rehearse", is_flag=True, help="Rehearse photos of the split train, as a site with base data would.")
@click.option("--port", default=8180, show_default=True, type=click.IntRange(1, 65535), help="Label Studio's port.")
@click.option("--backend-port", default=9190, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--label-studio",
    default=Path(".venv-label-studio/bin/label-studio"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Label Studio's command.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
def rounds(
    data: Path,
    split: str,
    count: int,
    photos: int,
    tests: int,
    weights: str,
    rehearse: bool,
    port: int,
    backend_port: int,
    label_studio: Path,
    out: Path,
) -> None:
    """Measures what a project learns whose labels are its own: Outfit, Legwear, Bare skin, Head.

    Starts Label Studio and the backend, imports photos in rounds, submits their true masks through the API, presses
    Start Training, and counts the clicks per class that the simulated annotator then needs on test photos. The base
    check is LIP's own classes on further photos. Writes rounds.json and rounds.png.

    \b
    ihp rounds --data DIR --out runs/rounds
    """
    try:
        base = find_weights(weights)
        found = open_data_set(data, split)
        needed = count * photos + tests
        if len(found) <= needed:
            raise DataError(f"split {split} has {len(found)} photos; {needed} and some for the base check are needed")
        shown = [Relabelled(some_photos(found, range(i * photos, (i + 1) * photos))) for i in range(count)]
        test = Relabelled(some_photos(found, range(count * photos, needed)))
        check = some_photos(found, range(needed, len(found)))
        out = out.resolve()
        (out / "photos").mkdir(parents=True, exist_ok=True)
        settings = {"IHP_WEIGHTS": str(base.resolve()), "IHP_TRAIN_AFTER": "0"}
        if rehearse:
            settings["IHP_BASE_DATA"] = str(_base_data(data, check.names, out / "base-data"))
        with running(
            out / "stack",
            port=port,
            backend_port=backend_port,
            label_studio=label_studio,
            settings=settings,
            say=click.echo,
        ) as stack:
            annotators = Annotators(stack, "Rounds", out / "photos")
            registry = Registry(out / "stack/backend/versions")

            def served() -> tuple[str, Path]:
                project = next((p for p in registry.projects() if p.startswith(f"{annotators.project}.")), "")
                name = registry.current(project) if project else BASE
                return (version_of(base), base) if name == BASE else (name, registry.get(project, name).folder)

            means = partial(annotators.means, out / "stack/backend/meanings")
            results = run(annotators, shown, partial(measure, test=test, check=check, means=means), served, out)
    except (DataError, ProcessError, LabelStudioError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    for result in results:
        click.echo(json.dumps({"photos": result.photos, "clicks": result.clicks, "base": result.base_check}))
    saved = 1 - results[-1].clicks / results[0].clicks
    click.echo(f"{saved:.0%} fewer clicks after {results[-1].photos} photos; see {out / 'rounds.png'}")


def _base_data(data: Path, check: Sequence[str], folder: Path) -> Path:
    """The data set with other splits: what is annotated in the rounds must not be the base check."""
    (folder / "splits").mkdir(parents=True, exist_ok=True)
    for name in ("images", "labels", "classes.json"):
        if not (folder / name).exists():
            (folder / name).symlink_to((data / name).resolve())
    (folder / "splits/train.txt").write_text((data / "splits/train.txt").read_text())
    (folder / "splits/val.txt").write_text("\n".join(check) + "\n")
    return folder
