"""``ihp connect``: a project of an existing Label Studio gets this backend."""

from __future__ import annotations

import click
import requests

from ihp_backend.demo.project import (
    BackendAccess,
    check_label_config,
    connect_backend,
    label_config_of,
    missing_weights,
)
from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.label_studio.client import Client
from ihp_backend.label_studio.label_config import LabelConfigError
from ihp_backend.label_studio.schema_choice import asked_schema, rank_schemas
from ihp_backend.parts import SCHEMAS
from ihp_backend.settings import Settings, is_web_address


@click.command()
@click.option("--url", help="Label Studio's address, such as http://127.0.0.1:8080.  [IHP_LABEL_STUDIO_URL]")
@click.option("--token", help="Access token.  [IHP_LABEL_STUDIO_TOKEN or IHP_LABEL_STUDIO_TOKEN_FILE]")
@click.option("--project", type=int, help="An existing project's number.")
@click.option("--new", "title", help="Title of a new project.")
@click.option(
    "--schema",
    type=click.Choice(list(SCHEMAS)),
    help="Give the project this label set's label config. Default for a new one: lip.",
)
@click.option(
    "--backend", default="http://127.0.0.1:9090", show_default=True, help="Address, as Label Studio reaches it."
)
@click.option("--backend-user", help="[IHP_BASIC_AUTH_USER]")
@click.option("--backend-password", help="[IHP_BASIC_AUTH_PASSWORD or IHP_BASIC_AUTH_PASSWORD_FILE]")
@click.option("--preannotate", is_flag=True, help="Opened tasks start with all parts that the backend sees.")
def connect(
    url: str | None,
    token: str | None,
    project: int | None,
    title: str | None,
    schema: str | None,
    backend: str,
    backend_user: str | None,
    backend_password: str | None,
    preannotate: bool,
) -> None:
    """Connects a project to the backend, and checks both directions.

    An existing project keeps its label config unless --schema is given; annotations are never touched.

    \b
    ihp connect --url http://127.0.0.1:8080 --token TOKEN --new "Street photos"
    ihp connect --url http://127.0.0.1:8080 --token TOKEN --project 3 --backend http://10.0.0.5:9090
    """
    if (project is None) == (title is None):
        raise click.UsageError("give either --project NUMBER or --new TITLE")
    try:
        settings = Settings.from_environment()
        url, token = url or settings.label_studio_url, token or settings.label_studio_token
        if not url or not token:
            raise click.UsageError("give --url and --token, or IHP_LABEL_STUDIO_URL and IHP_LABEL_STUDIO_TOKEN")
        url, backend = url.strip(), backend.strip()
        if not is_web_address(url):
            raise click.UsageError(f"--url is {url!r}; expected such as http://127.0.0.1:8080")
        if not is_web_address(backend):
            raise click.UsageError(f"--backend is {backend!r}; expected such as http://127.0.0.1:9090")
        client = Client(url, token)
        who = client.whoami()
        owner = who.get("email") or who.get("id")
        click.echo(f"Label Studio {client.version()} answers; the {client.token_kind} token belongs to {owner}")
        _check_backend(backend)
        if project is None:
            made = client.create_project(str(title), label_config_of(schema or "lip"))
        else:
            made = client.get_project(project)
            if schema:
                client.patch_project(project, label_config=label_config_of(schema))
        access = BackendAccess(
            backend,
            settings.basic_auth_user if backend_user is None else backend_user,
            settings.basic_auth_password if backend_password is None else backend_password,
        )
        try:
            config = check_label_config(client, made)
            click.echo(f"the label config has {len(config.labels)} labels to click and paint")
            fits = asked_schema(config) or rank_schemas(config, SCHEMAS.values())[0].name
            click.echo(f"of the label sets, {fits} fits it best: its weights answer")
            if missing := missing_weights(access, fits):
                click.echo(f"warning: {missing}", err=True)
            connect_backend(client, int(made["id"]), access, preannotate=preannotate)
        except Exception:
            if project is None:
                client.delete_project(int(made["id"]))
            raise
    except (LabelStudioError, LabelConfigError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo("Label Studio reaches the backend")
    _check_way_back(access, int(made["id"]))
    click.echo(f"click here: {url.rstrip('/')}/projects/{made['id']}/data")


def _check_backend(backend: str) -> None:
    """Tells if the backend does not answer here; from Label Studio's machine it may all the same."""
    try:
        status = requests.get(f"{backend.rstrip('/')}/live", timeout=5).status_code
    except requests.RequestException:
        status = 0
    if status != 200:
        click.echo(f"warning: {backend} does not answer from this machine; is `ihp serve` running there?", err=True)


def _check_way_back(access: BackendAccess, project: int) -> None:
    """Lets the backend say whether it reaches Label Studio, from which it gets the photos."""
    auth = (access.user, access.password) if access.user else None
    try:
        answer = requests.get(f"{access.url.rstrip('/')}/projects/{project}/connection", auth=auth, timeout=30)
        found = answer.json()
        reason = found.get("reason") or found.get("detail") or ""
        if answer.status_code == 200 and found["reachable"]:
            click.echo(f"the backend reaches Label Studio at {found['hostname']}")
            return
    except (requests.RequestException, ValueError, KeyError, AttributeError) as error:
        click.echo(
            f"warning: whether the backend reaches Label Studio could not be checked from here ({error})", err=True
        )
        return
    raise click.ClickException(
        f"connected, but the backend does not get photos from Label Studio: {reason}. Start it with "
        "IHP_LABEL_STUDIO_URL set to Label Studio's address as the backend reaches it, and IHP_LABEL_STUDIO_TOKEN"
    )
