"""Label Studio's REST API, as much of it as this backend needs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ihp_backend.label_studio.api_session import ApiSession, LabelStudioError

_FILES_A_REQUEST = 25
_IMPORT_S = 600.0
"""Label Studio answers once all tasks are there; who asks again before that has them twice."""
_ANNOTATION_EVENTS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"}


class Client(ApiSession):
    """Talks to one Label Studio as one user, see ``ApiSession``. May be shared between threads."""

    def version(self) -> str:
        """Returns Label Studio's version, such as ``"1.23.2"``."""
        return str(self._object("/api/version").get("release", ""))

    def whoami(self) -> dict[str, Any]:
        """Returns the user whose token this is: id, email, ..."""
        return self._object("/api/current-user/whoami")

    def list_projects(self) -> Iterator[dict[str, Any]]:
        """Yields all projects that the user sees."""
        page = 1
        while True:
            answer = self._object("/api/projects/", page=page, page_size=100)
            yield from answer.get("results") or []
            if not answer.get("next"):
                return
            page += 1

    def create_project(self, title: str, label_config: str, **fields: Any) -> dict[str, Any]:
        """Makes a project and returns it, with its ``id``."""
        body = {"title": title, "label_config": label_config, **fields}
        return dict(self.post("/api/projects/", json=body))

    def get_project(self, project: int) -> dict[str, Any]:
        """Returns a project."""
        return self._object(f"/api/projects/{project}/")

    def patch_project(self, project: int, **fields: Any) -> dict[str, Any]:
        """Changes fields of a project, such as ``label_config`` or ``model_version``, and returns it."""
        return dict(self.patch(f"/api/projects/{project}/", json=fields))

    def import_files(self, project: int, files: Sequence[Path]) -> int:
        """Uploads files, one task for each, and returns the number of tasks made."""
        made = 0
        for start in range(0, len(files), _FILES_A_REQUEST):
            batch = files[start : start + _FILES_A_REQUEST]
            made += int(self._upload(project, batch).get("task_count", len(batch)))
        return made

    def upload_files(self, project: int, files: Sequence[Path]) -> list[str]:
        """Uploads files without making tasks, and returns the address of each, as a task's data has it.

        Raises:
            LabelStudioError: If they are refused, or not all are there afterwards.
            OSError: If one cannot be read.
        """
        ids = self._upload(project, files, commit_to_project="false")["file_upload_ids"]
        kept = {made["id"]: made for made in self.get(f"/api/projects/{project}/file-uploads", ids=json.dumps(ids))}
        sizes = [int(kept[i].get("size") or 0) if i in kept else -1 for i in ids]
        if sizes != [file.stat().st_size for file in files]:
            raise LabelStudioError(f"Label Studio has kept other files than the {len(files)} that were uploaded")
        return [f"{urlsplit(self.url).path}/data/{quote(str(kept[i]['file']))}" for i in ids]

    def _upload(self, project: int, files: Sequence[Path], **params: str) -> dict[str, Any]:
        # The body cannot be sent twice: let an access token that is about to expire do so now.
        self.whoami()
        with ExitStack() as stack:
            parts = [
                (f"file{number}", (file.name, stack.enter_context(file.open("rb"))))
                for number, file in enumerate(files)
            ]
            return dict(self.post(f"/api/projects/{project}/import", files=parts, params=params))

    def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> int:
        """Makes tasks such as ``{"data": {"image": "https://..."}}``, and returns their number.

        They may have ``predictions`` and ``annotations``. Label Studio makes all of them, or none.
        """
        made = self.post(f"/api/projects/{project}/import", json=list(tasks), timeout=_IMPORT_S)
        return int(made["task_count"])

    def list_tasks(self, project: int, page_size: int = 100, **params: Any) -> Iterator[dict[str, Any]]:
        """Yields a project's tasks, with annotations, drafts and predictions, fetched page by page.

        Args:
            project: The project's id.
            page_size: Tasks fetched at once: a task carries all its masks.
            params: Further query parameters, such as ``view=3``.
        """
        page, seen = 1, 0
        while True:
            answer = self.get("/api/tasks/", project=project, page=page, page_size=page_size, fields="all", **params)
            tasks = answer["tasks"]
            yield from tasks
            seen += len(tasks)
            if not tasks or seen >= answer["total"]:
                return
            page += 1

    def select_tasks(
        self, project: int, *, annotated: bool | None, page_size: int = 50, masks: bool = True, after: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Yields the tasks of a project that somebody has annotated, or that nobody has, by their numbers.

        Each page begins behind the last task seen, so none is missed or comes twice while annotators work.

        Args:
            project: The project's id.
            annotated: Whether a task has an annotation that is not a skip; ``None``: all tasks.
            page_size: Tasks fetched at once: a task carries all its masks.
            masks: Whether to fetch annotations, drafts and predictions, too.
            after: Only tasks with a higher number than this.
        """
        last = after
        while True:
            filters = [_filter("id", "greater", last)]
            if annotated is not None:
                filters.insert(0, _filter("total_annotations", "greater" if annotated else "equal", 0))
            query = {"filters": {"conjunction": "and", "items": filters}, "ordering": ["tasks:id"]}
            answer = self._object(
                "/api/tasks/",
                project=project,
                page=1,
                page_size=page_size,
                fields="all" if masks else "task_only",
                query=json.dumps(query),
            )
            try:
                tasks = [task for task in answer["tasks"] if int(task["id"]) > last]
                before, last = last, max((int(task["id"]) for task in tasks), default=last)
            except (KeyError, TypeError, ValueError) as error:
                raise LabelStudioError(f"/api/tasks/ of {self.url} answered no tasks ({error!r:.100})") from None
            if last == before:
                return
            yield from tasks

    def put_task_data(self, task: int, data: Mapping[str, Any]) -> None:
        """Replaces a task's data: what is shown, and the columns of the list. Annotations stay as they are."""
        self.patch(f"/api/tasks/{task}/", json={"data": dict(data)})

    def put_tab(self, project: int, title: str, **data: Any) -> bool:
        """Makes a tab of Label Studio's list, unless there is one of that title; returns whether it was made.

        Args:
            project: The project's id.
            title: Its title.
            data: What it shows, such as ``ordering``.
        """
        there = self.get("/api/dm/views/", project=project)
        if any((tab.get("data") or {}).get("title") == title for tab in there):
            return False
        shown = {"title": title, "type": "list", "target": "tasks", **data}
        self.post("/api/dm/views/", json={"project": project, "data": shown})
        return True

    def annotations(self, task: int) -> list[dict[str, Any]]:
        """Returns a task's annotations."""
        return self._list(f"/api/tasks/{task}/annotations/")

    def create_annotation(self, task: int, result: Sequence[Mapping[str, Any]], **fields: Any) -> dict[str, Any]:
        """Adds an annotation to a task."""
        body = {"result": list(result), **fields}
        return dict(self.post(f"/api/tasks/{task}/annotations/", json=body))

    def drafts(self, task: int) -> list[dict[str, Any]]:
        """Returns the drafts of a task that belong to the user."""
        return self._list(f"/api/tasks/{task}/drafts")

    def predictions(self, task: int) -> list[dict[str, Any]]:
        """Returns a task's predictions."""
        return self._list("/api/predictions/", task=task)

    def import_predictions(self, project: int, predictions: Sequence[Mapping[str, Any]]) -> None:
        """Adds predictions to tasks of a project: each has ``task``, ``result``, ``score`` and ``model_version``."""
        self.post(f"/api/projects/{project}/import/predictions", json=list(predictions))

    def delete_prediction(self, prediction: int) -> None:
        """Deletes a prediction; annotations that were made from it stay."""
        self.delete(f"/api/predictions/{prediction}/")

    def list_ml_backends(self, project: int) -> list[dict[str, Any]]:
        """Returns the backends that a project is connected to."""
        return self._list("/api/ml/", project=project)

    def put_ml_backend(
        self, project: int, url: str, *, title: str, user: str = "", password: str = "", known: int | None = None
    ) -> dict[str, Any]:
        """Connects a project to a backend, as interactive, and returns the connection. Label Studio tries it first.

        Args:
            project: The project.
            url: The backend's address, as Label Studio reaches it.
            title: What the project's settings call it.
            user: User that the backend asks for, or nothing.
            password: Password of that user.
            known: Id of a connection to change instead of making a new one.

        Raises:
            LabelStudioError: If Label Studio does not reach the backend, or refuses its address as private.
        """
        body: dict[str, Any] = {"project": project, "url": url, "title": title, "is_interactive": True}
        body["auth_method"] = "BASIC_AUTH" if user else "NONE"
        if user:
            body |= {"basic_auth_user": user, "basic_auth_pass": password}
        return dict(self.post("/api/ml/", json=body) if known is None else self.patch(f"/api/ml/{known}", json=body))

    def put_webhook(
        self, project: int, url: str, *, headers: Mapping[str, str], instead_of: Sequence[str] = ()
    ) -> None:
        """Makes Label Studio tell a project's events to one address, under these headers.

        A webhook that is there is switched on, and told of annotations if it was not.

        Args:
            project: The project.
            url: The address.
            headers: Sent with each event.
            instead_of: Addresses that are not told any more.
        """
        known = [h for h in self.get("/api/webhooks/", project=project) if h["url"] in (url, *instead_of)]
        body = {"project": project, "url": url, "headers": dict(headers), "send_payload": True, "is_active": True}
        if known:
            if not {*known[0].get("actions", ())} >= _ANNOTATION_EVENTS:
                body["send_for_all_actions"] = True
            self.patch(f"/api/webhooks/{known[0]['id']}/", json=body)
        else:
            self.post("/api/webhooks/", json={**body, "send_for_all_actions": True})
        for other in known[1:]:
            self.delete(f"/api/webhooks/{other['id']}/")

    def delete_ml_backend(self, backend: int) -> None:
        """Removes a connection to a backend; its predictions stay."""
        self.delete(f"/api/ml/{backend}")

    def delete_project(self, project: int) -> None:
        """Deletes a project with all that is in it."""
        self.delete(f"/api/projects/{project}/")


def _filter(column: str, operator: str, value: int) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": "Number", "value": value}
