"""What the API's methods ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_label_studio import LEGACY, FakeLabelStudio, reply

from ihp_backend.label_studio.client import Client


@pytest.fixture
def label_studio() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as fake:
        yield fake


def test_tasks_come_page_by_page(label_studio: FakeLabelStudio) -> None:
    tasks = Client(label_studio.url, LEGACY).list_tasks(1, page_size=3)
    assert next(tasks)["id"] == 0
    assert len(label_studio.requests) == 1
    assert [task["id"] for task in tasks] == [1, 2, 3, 4, 5, 6]
    assert len(label_studio.requests) == 3


def test_files_are_imported_in_batches(label_studio: FakeLabelStudio, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(30)]
    for file in files:
        file.write_bytes(b"picture")
    assert Client(label_studio.url, LEGACY).import_files(1, files) == 30
    assert label_studio.paths().count("/api/projects/1/import") == 2


def test_ml_backend_is_interactive_and_has_its_password(label_studio: FakeLabelStudio) -> None:
    client = Client(label_studio.url, LEGACY)
    made = client.put_ml_backend(3, "http://b:9090", title="t", user="u", password="p")
    assert made["is_interactive"] is True
    assert (made["auth_method"], made["basic_auth_user"], made["basic_auth_pass"]) == ("BASIC_AUTH", "u", "p")
    changed = client.put_ml_backend(3, "http://b:9090", title="t", known=7)
    assert label_studio.requests[-1][:2] == ("PATCH", "/api/ml/7")
    assert changed["auth_method"] == "NONE"


@pytest.mark.parametrize(
    ("known", "asks_for_all"),
    [
        ({"is_active": False, "send_for_all_actions": True, "actions": []}, True),
        ({"actions": ["PROJECT_UPDATED", "ANNOTATION_CREATED"]}, True),
        ({"actions": ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"]}, False),
        (None, True),
    ],
)
def test_a_webhook_tells_of_annotations(
    label_studio: FakeLabelStudio, known: dict[str, object] | None, asks_for_all: bool
) -> None:
    hooks = [{"id": 7, "url": "http://b/webhook", **known}] if known else []
    label_studio.routes["/api/webhooks/?project=1"] = lambda handler: reply(handler, 200, json.dumps(hooks).encode())
    Client(label_studio.url, LEGACY).put_webhook(1, "http://b/webhook", headers={})
    (body,) = label_studio.bodies
    assert body["is_active"] is True
    assert body["send_payload"] is True
    assert body.get("send_for_all_actions", False) is asks_for_all
    assert label_studio.requests[-1][0] == ("PATCH" if known else "POST")
