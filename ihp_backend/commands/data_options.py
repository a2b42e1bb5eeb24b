"""Options that say which data set a command reads, and whom its labels mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ihp_backend.data.catalogue import LAYOUTS, RENDERED

_Command = TypeVar("_Command", bound=Callable[..., Any])


def data_options(command: _Command) -> _Command:
    """Gives a command the options ``--data``, ``--layout`` and ``--images``."""
    for option in (
        click.option(
            "--images", type=click.Path(file_okay=False, path_type=Path), help="Its photos, if not in DIR/images."
        ),
        click.option("--layout", type=click.Choice([*LAYOUTS, *RENDERED]), default="folder", show_default=True),
        click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of the data set."),
    ):
        command = option(command)
    return command


people_option = click.option(
    "--people",
    type=click.Choice(["one", "everyone"]),
    default="one",
    show_default=True,
    help="Whom a click means: the person it is on, or everyone, as in data that labels everybody in a photo.",
)
