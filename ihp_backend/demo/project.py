"""Sets up a project in a Label Studio: label config, backend, photos."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ihp_backend.label_studio.client import Client, LabelStudioError
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import get_schema

LABEL_CONFIGS = Path(__file__).parents[2] / "label_config"


def label_config_of(schema: str) -> str:
    """Returns the ready label config of a schema.

    Raises:
        ValueError: If there is no such schema.
    """
    return (LABEL_CONFIGS / f"{get_schema(schema).name.replace('-', '_')}.xml").read_text()


@dataclass(frozen=True)
class BackendAccess:
    """How Label Studio reaches the backend: its address, and user and password if it asks for them."""

    url: str
    user: str = ""
    password: str = ""


def find_project(client: Client, title: str) -> dict[str, Any] | None:
    """Returns the project of that title, if there is one."""
    return next((project for project in client.list_projects() if project["title"] == title), None)


def connect_backend(client: Client, project: int, backend: BackendAccess, *, preannotate: bool = False) -> None:
    """Connects a project to the backend as interactive, once.

    Args:
        client: Label Studio.
        project: Its project.
        backend: How it reaches the backend.
        preannotate: Whether a task that is opened gets the full parse as its first masks. Label Studio takes a click
            inside a mask as a choice of that mask (with Ctrl as a click), so a project that is clicked starts empty.

    Raises:
        LabelStudioError: If Label Studio does not reach the backend; a refusal of a private address says which of
            Label Studio's settings lift it.
    """
    known = [ml for ml in client.list_ml_backends(project) if str(ml["url"]).rstrip("/") == backend.url.rstrip("/")]
    if not known:
        try:
            client.add_ml_backend(project, backend.url, user=backend.user, password=backend.password)
        except LabelStudioError as error:
            raise explain_refusal(error, backend.url) from error
    client.patch_project(project, show_collab_predictions=preannotate, evaluate_predictions_automatically=preannotate)


def explain_refusal(error: LabelStudioError, url: str) -> LabelStudioError:
    """Turns Label Studio's refusal of a backend into one that says what to do."""
    text = str(error).lower()
    if "reserved" in text or "local" in text or "private" in text:
        return LabelStudioError(
            f"Label Studio refuses the backend's address {url}, because it is private",
            status=error.status,
            remedy="start Label Studio with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false (or "
            "USE_DEFAULT_BANNED_SUBNETS=false), then try again",
        )
    return LabelStudioError(
        f"Label Studio cannot use the backend at {url}: {error.reason}",
        status=error.status,
        remedy="is `ihp serve` running there, reachable from Label Studio's machine, with this user and password?",
    )


def check_label_config(client: Client, project: dict[str, Any]) -> LabelConfig:
    """Reads a project's label config; raises LabelConfigError, which shows the fix, if the backend cannot use it."""
    return LabelConfig.parse(client.get_project(int(project["id"]))["label_config"])


def import_new(client: Client, project: int, photos: Sequence[Path]) -> int:
    """Imports the photos that the project does not have yet, by file name, and returns how many those were."""
    there = [str(task["data"].get("image", "")).rpartition("/")[2] for task in client.list_tasks(project)]
    names = {_PREFIX.sub("", name) for name in there}
    new = [photo for photo in photos if _kept(photo) not in names]
    return client.import_files(project, new) if new else 0


_PREFIX = re.compile(r"^[0-9a-f]{8}-")
"""Label Studio puts it before the name of an uploaded file."""


def _kept(photo: Path) -> str:
    """What Label Studio makes of a file's name."""
    return "".join(c for c in photo.name.replace(" ", "_") if c.isalnum() or c in "-_.")
