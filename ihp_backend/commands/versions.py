"""``ihp versions``: what each project is served, and what it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import click

from ihp_backend import logs
from ihp_backend.files import write_whole
from ihp_backend.label_studio.connections import Connections
from ihp_backend.learning.registry import BASE, Registry, RegistryError, Version
from ihp_backend.learning.version_plot import draw_versions
from ihp_backend.parts import SCHEMAS
from ihp_backend.settings import Settings


@click.group()
def versions() -> None:
    """Lists, shows, promotes and rolls back the versions that a project has learnt.

    A running server notices within a second. --project takes the number in Label Studio's address, such as 3. A project
    has versions of each label set that it was trained for; --schema says which is meant, where there are several.

    \b
    ihp versions list
    ihp versions rollback --project 3
    """
    logs.configure("WARNING")


def _of_a_project(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a subcommand the registry and the project's id, and turns errors into messages."""

    @wraps(command)
    def run(project: str, **options: Any) -> None:
        try:
            settings = Settings.from_environment()
            registry = Registry(settings.data_dir / "versions")
            command(registry, project_id(project, registry, settings), **options)
        except (ValueError, OSError) as error:
            raise click.ClickException(str(error)) from error

    return click.option("--project", required=True, help="The project's number, or its whole id.")(run)


@versions.command("list")
@click.option("--project", help="The project's number, or its whole id. Default: all.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_versions(project: str | None, as_json: bool) -> None:
    """Lists versions, the oldest first; * is the one that is served."""
    try:
        settings = Settings.from_environment()
        registry = Registry(settings.data_dir / "versions")
        projects = [project_id(project, registry, settings)] if project else registry.projects()
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        found = {
            name: {
                "current": _current(registry, name),
                "serving": {schema: registry.current(name, schema) for schema in registry.schemas(name)},
                "versions": [{"name": v.name, **asdict(v.status), "schema": v.schema} for v in registry.versions(name)],
            }
            for name in projects
        }
        click.echo(json.dumps(found, indent=1))
        return
    if not projects:
        click.echo(f"no project has a version yet (in {registry.folder}): all are served the base weights")
    for name in projects:
        if not registry.versions(name):
            click.echo(f"project {name}: no version yet, the base weights are served")
        for schema in registry.schemas(name):
            current = registry.current(name, schema)
            click.echo(f"project {name}, label set {schema}")
            click.echo(f" {'*' if current == BASE else ' '} {BASE}")
            for version in (v for v in registry.versions(name) if v.schema == schema):
                click.echo(f" {'*' if version.name == current else ' '} {_line(version)}")


@versions.command()
@click.argument("name")
@_of_a_project
def show(registry: Registry, project: str, name: str) -> None:
    """Shows all that is known of a version, as JSON."""
    version = registry.get(project, name)
    found = {
        "name": version.name,
        "is_current": registry.current(project, version.schema) == name,
        "folder": str(version.folder),
        "has_weights": version.has_weights,
        **asdict(version.status),
        "schema": version.schema,
    }
    click.echo(json.dumps(found, indent=1))


@versions.command()
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="PNG to write.")
@click.option("--schema", type=click.Choice(list(SCHEMAS)), help="Of which label set, where there are several.")
@_of_a_project
def plot(registry: Registry, project: str, out: Path, schema: str | None) -> None:
    """Draws what each version came to on the photos that were held back from it."""
    schemas = registry.schemas(project)
    if not schemas or (schema is None and len(schemas) > 1) or (schema and schema not in schemas):
        there = ", ".join(schemas) or "none yet"
        raise click.ClickException(f"project {project} has versions of: {there}; say which with --schema")
    of = schema or schemas[0]
    of_schema = [version for version in registry.versions(project) if version.schema == of]
    write_whole(out, draw_versions(of_schema, registry.current(project, of)))
    click.echo(f"wrote {out}: {len(of_schema)} versions")


@versions.command()
@click.argument("name")
@click.option("--schema", type=click.Choice(list(SCHEMAS)), help="Whose base weights `base` means.")
@_of_a_project
def promote(registry: Registry, project: str, name: str, schema: str | None) -> None:
    """Serves a version from now on; `base` stands for the base weights."""
    registry.promote(project, name, schema=schema)
    click.echo(f"project {project} is served {name}")


@versions.command()
@click.option("--schema", type=click.Choice(list(SCHEMAS)), help="Of which label set.")
@_of_a_project
def rollback(registry: Registry, project: str, schema: str | None) -> None:
    """Goes back to what was served before."""
    click.echo(f"project {project} is served {registry.rollback(project, schema=schema)} again")


def project_id(given: str, registry: Registry, settings: Settings) -> str:
    """Finds the id of a project, such as ``1.1795392500``, by its number.

    Raises:
        RegistryError: If nothing is known of it, or several have the number.
    """
    known = sorted({*registry.projects(), *Connections(settings.data_dir / "connections").projects()})
    found = [name for name in known if given in (name, name.partition(".")[0])]
    if len(found) == 1:
        return found[0]
    if found:
        raise RegistryError(f"several projects have the number {given}: give one of {', '.join(found)}")
    raise RegistryError(
        f"nothing is known of project {given!r} in {settings.data_dir} (IHP_DATA_DIR); known are "
        f"{', '.join(known) or 'none'}"
    )


def _current(registry: Registry, project: str) -> str:
    """Returns what is served for the label set that was trained last."""
    versions = registry.versions(project)
    return registry.current(project, versions[-1].schema) if versions else BASE


def _line(version: Version) -> str:
    status = version.status
    gone = "" if version.has_weights else "  (weights deleted)"
    return f"{version.name:20s} {status.when}  {status.state:11s} {status.reason}{gone}"
