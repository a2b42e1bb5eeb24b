"""Sets up a project in a Label Studio: label config, backend, photos."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import quoteattr

import requests
from defusedxml.ElementTree import fromstring

from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.label_studio.client import Client
from ihp_backend.label_studio.config_tags import OPTIONS
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import get_schema

_TITLE = "Interactive human parsing"
_TAG = re.compile(r"<[^>]*>")
LABEL_CONFIGS = Path(__file__).parents[2] / "label_config"


def label_config_of(schema: str) -> str:
    """Returns the ready label config of a schema.

    Raises:
        ValueError: If there is no such schema.
    """
    return (LABEL_CONFIGS / f"{get_schema(schema).name.replace('-', '_')}.xml").read_text()


def plain_label_config(
    labels: Iterable[str], *, refine: str = OPTIONS["refine"][0], people: str = OPTIONS["people"][0]
) -> str:
    """Returns a label config with these labels, which mean themselves.

    Args:
        labels: Their names.
        refine: What a click refines, as ``ihp_refine`` says it.
        people: Whom a click means, as ``ihp_people`` says it.
    """
    options = f"ihp_refine={quoteattr(refine)} ihp_people={quoteattr(people)}"
    tags = "".join(f"<Label value={quoteattr(label)}/>" for label in labels)
    return f"""<View><Image name="image" value="$image"/>
<KeyPointLabels name="click" toName="image" smart="true" {options}>{tags}</KeyPointLabels>
<BrushLabels name="mask" toName="image" smart="false">{tags}</BrushLabels></View>"""


def hotkeys(label_config: str) -> list[tuple[str, str]]:
    """Returns the key and the label of each keypoint label that has a key."""
    labels = fromstring(label_config, forbid_dtd=True).iterfind(".//KeyPointLabels/Label")
    return [(label.get("hotkey", ""), label.get("value", "")) for label in labels if label.get("hotkey")]


def demo_title(schema: str, photos: str = "") -> str:
    """Returns the title of a label set's project.

    Args:
        schema: Name of the label set.
        photos: Name of the folder of the user's own photos; empty for the default ones.
    """
    suits = {"lip": "", "cihp": "CIHP, several people", "helen": "Helen, faces"}.get(schema, get_schema(schema).title)
    name = ": ".join(filter(None, ("Human parsing", suits, photos)))
    return name[:50]  # Label Studio's limit


def missing_weights(access: BackendAccess, schema: str) -> str:
    """Asks a backend for its label sets; returns what is to be known if it has no weights of one, else an empty text.

    A backend that does not answer is no news here.
    """
    try:
        auth = (access.user, access.password) if access.user else None
        there = requests.get(f"{access.url.rstrip('/')}/health", auth=auth, timeout=10).json()["label_sets"]
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return ""
    if schema in there:
        return ""
    return (
        f"the backend has no weights of the label set {schema} (it has {', '.join(there) or 'none'}): another set's "
        "answer, and labels that those do not know are cut out by their clicks alone"
    )


@dataclass(frozen=True)
class BackendAccess:
    """How Label Studio reaches the backend: its address, and user and password if it asks for them."""

    url: str
    user: str = ""
    password: str = ""


def find_project(client: Client, title: str, description: str = "") -> dict[str, Any] | None:
    """Returns the project of that title and description, if there is one."""
    return next(
        (p for p in client.list_projects() if p["title"] == title and (p.get("description") or "") == description), None
    )


def connect_backend(client: Client, project: int, backend: BackendAccess, *, preannotate: bool = False) -> None:
    """Connects a project to the backend as interactive.

    A connection that was made so before is moved to this address, with this user and password: of several, Label
    Studio's interface asks the first, whether or not it answers.

    Args:
        client: Label Studio.
        project: Its project.
        backend: How it reaches the backend.
        preannotate: Whether a task that is opened gets the full parse as its first masks. Label Studio takes a click
            inside a mask as a choice of that mask (with Ctrl as a click), so a project that is clicked starts empty.

    Raises:
        LabelStudioError: If Label Studio does not reach the backend, or does not take its address; the message says
            what to do.
    """
    url = backend.url.rstrip("/")
    ours = [ml for ml in client.list_ml_backends(project) if ml["title"] == _TITLE or str(ml["url"]).rstrip("/") == url]
    first = int(ours[0]["id"]) if ours else None
    try:
        client.put_ml_backend(project, url, title=_TITLE, user=backend.user, password=backend.password, known=first)
    except LabelStudioError as error:
        raise explain_refusal(error, url) from error
    for other in ours[1:]:
        client.delete_ml_backend(int(other["id"]))
    # Label Studio makes a webhook with a new connection, but does not move it, nor does it tell it the password.
    secret = base64.b64encode(f"{backend.user}:{backend.password}".encode()).decode()
    try:
        client.put_webhook(
            project,
            f"{url}/webhook",
            headers={"Authorization": f"Basic {secret}"} if backend.user else {},
            instead_of=[f"{str(ml['url']).rstrip('/')}/webhook" for ml in ours],
        )
    except LabelStudioError as error:
        if "enter a valid url" not in error.reason.lower():
            raise
        raise LabelStudioError(
            f"Label Studio sends no events to {url}: it takes no name without a dot, other than localhost",
            status=error.status,
            remedy="give the backend's full name, such as http://gpu1.lan:9090, or its IP address",
        ) from error
    client.patch_project(project, show_collab_predictions=preannotate, evaluate_predictions_automatically=preannotate)


def explain_refusal(error: LabelStudioError, url: str) -> LabelStudioError:
    """Turns Label Studio's refusal of a backend into one that says what to do."""
    # Without the address itself: it may be "localhost", whatever the refusal is for.
    text = str(error).lower().replace(url.lower(), "").replace(urlsplit(url).netloc.lower(), "")
    if re.search(r"\b(reserved|private|local)\b", text):
        return LabelStudioError(
            f"Label Studio refuses the backend's address {url}, because it is private",
            status=error.status,
            remedy="start Label Studio with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false (or "
            "USE_DEFAULT_BANNED_SUBNETS=false), then try again",
        )
    return LabelStudioError(
        f"Label Studio cannot use the backend at {url}: {_TAG.sub('', error.reason)}",
        status=error.status,
        remedy="is `ihp serve` running there, reachable from Label Studio's machine, with this user and password?",
    )


def check_label_config(client: Client, project: dict[str, Any]) -> LabelConfig:
    """Reads a project's label config; raises LabelConfigError, which shows the fix, if the backend cannot use it."""
    return LabelConfig.parse(client.get_project(int(project["id"]))["label_config"]).check()


def import_new(client: Client, project: int, photos: Sequence[Path]) -> int:
    """Imports the photos that the project does not have yet, by file name, and returns how many those were."""
    there = [unquote(str(task["data"].get("image", ""))).rpartition("/")[2] for task in client.list_tasks(project)]
    names = {_PREFIX.sub("", name) for name in there}
    new = [photo for photo in photos if _kept(photo) not in names]
    return client.import_files(project, new) if new else 0


_PREFIX = re.compile(r"^[0-9a-f]{8}-")
"""Label Studio puts it before the name of an uploaded file."""


def _kept(photo: Path) -> str:
    """What Label Studio makes of a file's name."""
    return "".join(c for c in photo.name.replace(" ", "_") if c.isalnum() or c in "-_.")
