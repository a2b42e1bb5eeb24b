"""Label Studio's REST API, as much of it as this backend needs, under a legacy or a personal access token."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

import requests

from ihp_backend.label_studio.fetching import FetchError, Target, get

_TOKEN = re.compile(r"[\x21-\x7e]+")
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*")
_RENEW_BEFORE_S = 30.0
_DEFAULT_LIFE_S = 300.0
_FILES_A_REQUEST = 25
_TOKEN_BYTES = 100_000
ANSWER_BYTES = 500_000_000
"""A page of tasks has all their masks."""
_LONGEST_ANSWER = 10
"""An answer may take so many times the longest silence."""
_PIECE = 1 << 14
"""Bytes that are unpacked at a time: a thousand times as many may come out."""


class LabelStudioError(RuntimeError):
    """Label Studio refused, failed, or could not be reached.

    Attributes:
        status: The HTTP status of its answer; ``None`` if there was no answer.
        reason: What happened.
        remedy: What to do about it; may be empty.
    """

    def __init__(self, reason: str, *, status: int | None = None, remedy: str = "") -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.status = status
        self.reason = reason
        self.remedy = remedy


class Client:
    """Talks to one Label Studio as one user. May be shared between threads.

    A personal access token is exchanged for short-lived ones, which are renewed before they expire and when
    Label Studio refuses one.

    Args:
        url: Label Studio's address, such as ``"http://127.0.0.1:8080"``.
        token: A legacy token or a personal access token; both are on its page "Account & Settings".
        timeout_s: Longest silence of Label Studio, in seconds.
    """

    def __init__(self, url: str, token: str, timeout_s: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self.token = token.strip()
        self._session = requests.Session()
        # With a session cookie, Label Studio would ask for a CSRF token.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._access = ""
        self._renew_at = 0.0
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"Client({self.url!r}, {self.token_kind} token)"

    @property
    def token_kind(self) -> str:
        """``"personal"`` (a JWT, to be exchanged) or ``"legacy"`` (sent as it is)."""
        return "personal" if _JWT.fullmatch(self.token) else "legacy"

    def auth_headers(self, rejected: Mapping[str, str] | None = None) -> dict[str, str]:
        """Returns the headers that authenticate a request to this Label Studio, and to nobody else.

        Args:
            rejected: The headers that Label Studio has just answered with 401, if so.

        Raises:
            LabelStudioError: If the personal access token cannot be exchanged, or is no token at all.
        """
        if not self.token:
            return {}
        if not _TOKEN.fullmatch(self.token):
            # Whoever sends it would show it in the error.
            raise LabelStudioError("the access token has blanks or characters that no token has; copy it again")
        if self.token_kind == "legacy":
            return {"Authorization": f"Token {self.token}"}
        with self._lock:
            # Of several threads that were refused at once, the first renews for all.
            is_rejected = rejected is not None and rejected.get("Authorization") == f"Bearer {self._access}"
            if not self._access or is_rejected or monotonic() >= self._renew_at:
                self._access = self._exchange()
                self._renew_at = monotonic() + max(_life_s(self._access) - _RENEW_BEFORE_S, 1.0)
            return {"Authorization": f"Bearer {self._access}"}

    def request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Sends a request to Label Studio, ``path`` below its address, and returns the answer of status 2xx.

        Args:
            method: Such as ``"GET"``.
            path: Such as ``"/api/projects/"``.
            kwargs: Of ``requests.request``: params, json, data, files, stream, timeout.

        Raises:
            LabelStudioError: If Label Studio cannot be reached, or answers anything else.
        """
        headers = self.auth_headers()
        response = self._send(method, path, headers, **kwargs)
        if response.status_code == 401 and self.token_kind == "personal" and not kwargs.get("files"):
            response.close()
            response = self._send(method, path, self.auth_headers(rejected=headers), **kwargs)
        if not response.ok or response.is_redirect:
            raise self._error(method, path, response)
        return response

    def get(self, path: str, **params: Any) -> Any:
        """Returns the JSON of a GET; ``params`` go into the query."""
        return self._json(self.request("GET", path, params=params))

    def post(self, path: str, json: Any = None, **kwargs: Any) -> Any:
        """Posts JSON and returns the answer's JSON."""
        return self._json(self.request("POST", path, json=json, **kwargs))

    def patch(self, path: str, json: Any) -> Any:
        """Patches with JSON and returns the answer's JSON."""
        return self._json(self.request("PATCH", path, json=json))

    def delete(self, path: str) -> None:
        """Deletes what is at the path."""
        self.request("DELETE", path)

    def _exchange(self) -> str:
        """Exchanges the personal token; bytes and time are bounded, for anybody may have told the address."""
        path = "/api/token/refresh"
        try:
            reply = get(
                Target.parse(self.url + path),
                {"Content-Type": "application/json"},
                allow_private=True,
                max_bytes=_TOKEN_BYTES,
                deadline=monotonic() + self.timeout_s,
                posted=json.dumps({"refresh": self.token}).encode(),
            )
        except FetchError as error:
            raise LabelStudioError(
                f"Label Studio at {self.url} cannot be reached ({self._blank(str(error))})",
                remedy="is it running, and is the address right, seen from this machine?",
            ) from None
        try:
            access = json.loads(reply.body)
        except (ValueError, RecursionError):
            access = None
        if reply.status != 200:
            detail = access.get("detail") if isinstance(access, dict) else None
            raise LabelStudioError(
                self._blank(f"POST {path} got {reply.status} from {self.url}: {detail or 'no reason given'!s:.500}"),
                status=reply.status,
                remedy=_REMEDIES.get(reply.status, ""),
            )
        token = access.get("access") if isinstance(access, dict) else None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise LabelStudioError(f"{self.url}{path} gave no access token")
        return token

    def _send(self, method: str, path: str, headers: Mapping[str, str], **kwargs: Any) -> requests.Response:
        def authenticate(request: requests.PreparedRequest) -> requests.PreparedRequest:
            # As `auth`, not as headers: else requests puts what ~/.netrc says in their place.
            request.headers.update(headers)
            return request

        try:
            response = self._session.request(
                method,
                self.url + path,
                auth=authenticate,
                timeout=kwargs.pop("timeout", self.timeout_s),
                # A POST that is redirected becomes a GET, and the token goes where nobody named.
                allow_redirects=False,
                **kwargs | {"stream": True},
            )
            if not kwargs.get("stream"):
                self._read(response)
            return response
        except requests.Timeout:
            raise LabelStudioError(
                f"Label Studio at {self.url} did not answer {method} {path} in time",
                remedy="look at its log, or whether the address is right",
            ) from None
        except (requests.RequestException, UnicodeError, ValueError) as error:
            raise LabelStudioError(
                f"Label Studio at {self.url} cannot be reached ({self._blank(_root_cause(error))})",
                remedy="is it running, and is the address right, seen from this machine?",
            ) from None

    def _read(self, response: requests.Response) -> None:
        """Reads an answer's body, within limits on its bytes, as they are unpacked, and on its time."""
        until, parts, size = monotonic() + _LONGEST_ANSWER * self.timeout_s, [], 0
        while part := response.raw.read1(_PIECE, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > ANSWER_BYTES or monotonic() > until:
                response.close()
                raise LabelStudioError(
                    f"{self.url} answers without an end: {size} bytes are there",
                    remedy="is this Label Studio's address?",
                )
        response._content = b"".join(parts)  # where requests keeps it

    def _json(self, response: requests.Response) -> Any:
        if response.status_code == 204 or not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise LabelStudioError(
                f"{response.url} answered something that is not JSON "
                f"({response.headers.get('Content-Type', 'no content type')})",
                status=response.status_code,
                remedy="is this Label Studio's address?",
            ) from None

    def _error(self, method: str, path: str, response: requests.Response) -> LabelStudioError:
        status = response.status_code
        if response.is_redirect:
            target = response.headers.get("Location", "")
            reason, remedy = f"{method} {path} is redirected to {target[:200]}", "use that address instead"
        else:
            reason = f"{method} {path} got {status} from {self.url}: {_detail(response)}"
            remedy = _REMEDIES.get(status, "look at Label Studio's log" if status >= 500 else "")
        return LabelStudioError(self._blank(reason), status=status, remedy=remedy)

    def _blank(self, text: str) -> str:
        for secret in (self.token, self._access):
            text = text.replace(secret, "***") if secret else text
        return text

    # --- Project API ------------------------------------------------------------------------------------

    def version(self) -> str:
        """Returns Label Studio's version, such as ``"1.23.2"``."""
        return str(self.get("/api/version").get("release", ""))

    def whoami(self) -> dict[str, Any]:
        """Returns the user whose token this is: id, email, ..."""
        return dict(self.get("/api/current-user/whoami"))

    def list_projects(self) -> Iterator[dict[str, Any]]:
        """Yields all projects that the user sees."""
        page = 1
        while True:
            answer = self.get("/api/projects/", page=page, page_size=100)
            yield from answer["results"]
            if not answer["next"]:
                return
            page += 1

    def create_project(self, title: str, label_config: str, **fields: Any) -> dict[str, Any]:
        """Makes a project and returns it, with its ``id``."""
        body = {"title": title, "label_config": label_config, **fields}
        return dict(self.post("/api/projects/", json=body))

    def get_project(self, project: int) -> dict[str, Any]:
        """Returns a project."""
        return dict(self.get(f"/api/projects/{project}/"))

    def patch_project(self, project: int, **fields: Any) -> dict[str, Any]:
        """Changes fields of a project, such as ``label_config`` or ``model_version``, and returns it."""
        return dict(self.patch(f"/api/projects/{project}/", json=fields))

    def import_files(self, project: int, files: Sequence[Path]) -> int:
        """Uploads files, one task for each, and returns the number of tasks made."""
        made = 0
        for start in range(0, len(files), _FILES_A_REQUEST):
            batch = files[start : start + _FILES_A_REQUEST]
            # The body cannot be sent twice: let an access token that is about to expire do so now.
            self.whoami()
            with ExitStack() as stack:
                parts = [
                    (f"file{number}", (file.name, stack.enter_context(file.open("rb"))))
                    for number, file in enumerate(batch)
                ]
                answer = self.post(f"/api/projects/{project}/import", files=parts)
            made += int(answer.get("task_count", len(batch)))
        return made

    def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> int:
        """Makes tasks such as ``{"data": {"image": "https://..."}}``, and returns their number."""
        return int(self.post(f"/api/projects/{project}/import", json=list(tasks))["task_count"])

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
        self, project: int, *, annotated: bool | None, page_size: int = 50, masks: bool = True
    ) -> Iterator[dict[str, Any]]:
        """Yields the tasks of a project that somebody has annotated, or that nobody has, by their numbers.

        Each page begins behind the last task seen, so none is missed or comes twice while annotators work.

        Args:
            project: The project's id.
            annotated: Whether a task has an annotation that is not a skip; ``None``: all tasks.
            page_size: Tasks fetched at once: a task carries all its masks.
            masks: Whether to fetch annotations, drafts and predictions, too.
        """
        last = 0
        while True:
            filters = [_filter("id", "greater", last)]
            if annotated is not None:
                filters.insert(0, _filter("total_annotations", "greater" if annotated else "equal", 0))
            query = {"filters": {"conjunction": "and", "items": filters}, "ordering": ["tasks:id"]}
            answer = self.get(
                "/api/tasks/",
                project=project,
                page=1,
                page_size=page_size,
                fields="all" if masks else "task_only",
                query=json.dumps(query),
            )
            tasks = [task for task in answer["tasks"] if int(task["id"]) > last]
            if not tasks:
                return
            yield from tasks
            last = max(int(task["id"]) for task in tasks)

    def get_task(self, task: int) -> dict[str, Any]:
        """Returns a task with its annotations, drafts and predictions."""
        return dict(self.get(f"/api/tasks/{task}/"))

    def annotations(self, task: int) -> list[dict[str, Any]]:
        """Returns a task's annotations."""
        return list(self.get(f"/api/tasks/{task}/annotations/"))

    def create_annotation(self, task: int, result: Sequence[Mapping[str, Any]], **fields: Any) -> dict[str, Any]:
        """Adds an annotation to a task."""
        body = {"result": list(result), **fields}
        return dict(self.post(f"/api/tasks/{task}/annotations/", json=body))

    def drafts(self, task: int) -> list[dict[str, Any]]:
        """Returns the drafts of a task that belong to the user."""
        return list(self.get(f"/api/tasks/{task}/drafts"))

    def predictions(self, task: int) -> list[dict[str, Any]]:
        """Returns a task's predictions."""
        return list(self.get("/api/predictions/", task=task))

    def create_prediction(
        self, task: int, result: Sequence[Mapping[str, Any]], *, score: float, model_version: str
    ) -> dict[str, Any]:
        """Adds a prediction to a task."""
        body = {"task": task, "result": list(result), "score": score, "model_version": model_version}
        return dict(self.post("/api/predictions/", json=body))

    def import_predictions(self, project: int, predictions: Sequence[Mapping[str, Any]]) -> None:
        """Adds predictions to tasks of a project: each has ``task``, ``result``, ``score`` and ``model_version``."""
        self.post(f"/api/projects/{project}/import/predictions", json=list(predictions))

    def delete_prediction(self, prediction: int) -> None:
        """Deletes a prediction; annotations that were made from it stay."""
        self.delete(f"/api/predictions/{prediction}/")

    def list_ml_backends(self, project: int) -> list[dict[str, Any]]:
        """Returns the backends that a project is connected to."""
        return list(self.get("/api/ml/", project=project))

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


_ANNOTATION_EVENTS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"}
_REMEDIES = {
    401: 'copy the token again from Label Studio\'s page "Account & Settings"; legacy tokens may be off there',
    403: "the token's user has no right to this",
    404: "is this Label Studio's address, and does what is asked for still exist?",
    429: "try again later",
}


def _filter(column: str, operator: str, value: int) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": "Number", "value": value}


def _life_s(access: str) -> float:
    """Returns for how long an access token is good, in seconds: by its own dates, not by this clock."""
    try:
        payload = access.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"]) - float(claims["iat"])
    except (ValueError, KeyError, IndexError, TypeError):
        return _DEFAULT_LIFE_S


def _detail(response: requests.Response) -> str:
    try:
        body = response.json()
        said = [str(body[name]) for name in ("detail", "validation_errors") if body.get(name)]
        return ": ".join(said or [str(body)])[:500]
    except (ValueError, AttributeError):
        return response.reason or "no reason given"


def _root_cause(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error)[:200] or type(error).__name__
