"""What commands that work on one project of Label Studio have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from ihp_backend.label_studio.client import Client
from ihp_backend.label_studio.connections import Connection, Connections, by_settings
from ihp_backend.settings import Settings, is_web_address

Command = Callable[..., None]
NUMBERS_A_PAGE = 500
"""Tasks that are asked for at once where their masks are not wanted."""


def of_project(command: Command) -> Command:
    """Gives a command the options ``--project`` (as ``number``), ``--url`` and ``--token``."""
    for option in (
        click.option("--token", help="Access token.  [IHP_LABEL_STUDIO_TOKEN]"),
        click.option("--url", help="Label Studio's address.  [IHP_LABEL_STUDIO_URL, or what its /setup told]"),
        click.option("--project", "number", type=int, required=True, help="The project's number."),
    ):
        command = option(command)
    return command


def settings_with(url: str | None, token: str | None) -> Settings:
    """Returns the settings of the environment, with another address or token of Label Studio if one is given.

    Raises:
        SettingsError: If a variable has a value that cannot be.
        UsageError: If the address is none.
    """
    settings = Settings.from_environment()
    if url and not is_web_address(url):
        raise click.UsageError(f"--url is {url!r}; expected such as http://127.0.0.1:8080")
    if not (url or token):
        return settings
    return replace(
        settings,
        label_studio_url=url or settings.label_studio_url,
        label_studio_token=token or settings.label_studio_token,
    )


def access_to(connection: Connection | None) -> tuple[Connection, Client]:
    """Returns a Label Studio and what talks to it; raises UsageError if its address is not known."""
    if connection is None or not connection.hostname:
        raise click.UsageError(
            "Label Studio's address is not known; give --url and --token, or set IHP_LABEL_STUDIO_URL and "
            "IHP_LABEL_STUDIO_TOKEN"
        )
    return connection, Client(connection.hostname, connection.token)


def open_project(settings: Settings, number: int) -> tuple[Connection, Client, dict[str, Any]]:
    """Returns the Label Studio of a project, what talks to it, and the project as it tells it.

    Raises:
        UsageError: If the address of Label Studio is not known.
        LabelStudioError: If it does not give the project.
    """
    told = Connections(settings.data_dir / "connections").find_number(number)
    connection, client = access_to(by_settings(settings, told))
    return connection, client, client.get_project(number)
