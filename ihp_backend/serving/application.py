"""The HTTP application that Label Studio talks to."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from threading import BoundedSemaphore
from time import perf_counter
from typing import Any

from flask import Flask, Response, abort, g, request
from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug.exceptions import BadRequest, Conflict, HTTPException, RequestEntityTooLarge, ServiceUnavailable

from ihp_backend import __version__
from ihp_backend.label_studio.connections import Connection
from ihp_backend.label_studio.label_config import LabelConfig, LabelConfigError
from ihp_backend.label_studio.regions import RequestError
from ihp_backend.learning.registry import RegistryError
from ihp_backend.learning.triggers import EVENTS
from ihp_backend.logs import fields, request_id
from ihp_backend.memory import MemoryBudget, MemoryLimitError, limited_by, reserved
from ihp_backend.serving.admission import Admission
from ihp_backend.serving.front import Limits, Policy
from ihp_backend.serving.json_body import MOST_DEPTH, measure, parse
from ihp_backend.serving.known_projects import ConnectionConflictError
from ihp_backend.serving.process import give_back_after_large
from ihp_backend.serving.runtime import ModelUnavailableError, Runtime
from ihp_backend.serving.sdk_adapter import InteractiveHumanParsing
from ihp_backend.settings import Settings

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[\w.-]{1,64}")
_CONTROL = re.compile(r"[^\x20-\x7e]+")


def create_app(settings: Settings | None = None, *, runtime: Runtime | None = None) -> Flask:
    """Makes the application. Cheap: the model loads at the first prediction, or by ``runtime.preload()``.

    Args:
        settings: The deployment's options; read from the environment by default.
        runtime: The shared model and images; made from the settings by default.
    """
    if runtime is None:
        runtime = Runtime(settings or Settings.from_environment())
    settings = runtime.settings
    app = Flask("ihp_backend")
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_mb * 2**20
    _watch_requests(app, runtime)
    _answer_errors_in_json(app)
    admission = Admission(settings)
    _admit(app, admission)
    app.extensions["ihp_front"] = Policy(
        limits=Limits(body_bytes=settings.max_body_mb << 20),
        refuses=lambda environ: admission.refusal(environ) is not None,
        count=lambda reason: runtime.metrics.unread.labels(reason).inc(),
        spool=settings.data_dir,
        every_second=lambda: give_back_after_large(runtime.memory),
    )
    _add_probes(app, runtime)
    _add_label_studio_routes(app, runtime)
    return app


def _add_probes(app: Flask, runtime: Runtime) -> None:
    @app.get("/")
    @app.get("/health")
    def health() -> Response:
        body = {"status": "UP", "ready": runtime.is_ready, "version": __version__}
        if runtime.is_ready:
            body["model_version"] = runtime.version()
        if runtime.failure:
            body["error"] = runtime.failure
        body["label_sets"] = runtime.base.versions()
        return _json(body)

    @app.get("/live")
    def live() -> Response:
        return _json({"status": "UP"})

    @app.get("/ready")
    def ready() -> Response:
        return _json({"ready": runtime.is_ready}, 200 if runtime.is_ready else 503)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(runtime.metrics.render(), content_type=CONTENT_TYPE_LATEST)

    @app.get("/versions")
    def versions() -> Response:
        """Tells the versions that can be served: of the base weights, and of the project if the request names one."""
        project = request.args.get("project") or None
        current = runtime.version(project)
        try:
            found = runtime.versions(project)
        except RegistryError as error:
            raise BadRequest(str(error)) from error
        return _json({"versions": list(found["schemas"]), "current": current, **found})

    @app.get("/trainings")
    def trainings() -> Response:
        """Tells the last training of each project, or the one under way."""
        records = runtime.trainings.records
        return _json({project: asdict(records.read(project)) for project in records.projects()})

    @app.get("/projects/<int:project>/connection")
    def connection(project: int) -> Response:
        """Tries whether the images of a project can be had: for `ihp connect`, and for who looks for a fault."""
        return _json(runtime.try_connection(project))


def _add_label_studio_routes(app: Flask, runtime: Runtime) -> None:
    places = BoundedSemaphore(runtime.settings.queue_limit)

    @app.post("/setup")
    def setup() -> Response:
        body = _body(runtime.memory)
        project, schema = _text(body, "project"), _text(body, "schema")
        if body.get("hostname"):
            token = _text(body, "access_token") if body.get("access_token") else ""
            runtime.remember(project, Connection(_text(body, "hostname").strip(), token))
        config = LabelConfig.parse(schema).check()
        InteractiveHumanParsing(project_id=project, label_config=schema, runtime=runtime)
        choice = runtime.choose(project, config)
        told = {"message": choice.note} if choice.note else {}
        return _json({"model_version": runtime.version(project, config), "label_set": choice.answering, **told})

    @app.post("/predict")
    def predict() -> Response:
        body = _body(runtime.memory)
        tasks = body.get("tasks")
        if not isinstance(tasks, list) or not tasks:
            raise BadRequest("`tasks` is missing or empty; expected a list of Label Studio's tasks")
        params = body.get("params") or {}
        if not isinstance(params, Mapping):
            raise BadRequest("`params` is not an object; expected {'context': null} or {'context': {'result': [...]}}")
        project = body.get("project")
        if project is not None and not isinstance(project, str):
            raise BadRequest("`project` is not a string; expected Label Studio's id, such as '1.1795392500'")
        if not places.acquire(blocking=False):
            runtime.metrics.refused.inc()
            raise ServiceUnavailable(
                f"{runtime.settings.queue_limit} predictions run or wait already; try again in a second",
                retry_after=1,
            )
        try:
            with runtime.metrics.predicting.track_inprogress():
                model = InteractiveHumanParsing(
                    project_id=project, label_config=_text(body, "label_config"), runtime=runtime
                )
                g.log = {"project": project, "tasks": len(tasks)}
                results = model.predict(tasks, context=params.get("context"))
        finally:
            places.release()
        return _json({"results": results, "model_version": results[0]["model_version"]})

    @app.post("/webhook")
    def webhook() -> Response:
        body = _body(runtime.memory)
        action = _text(body, "action")
        project = body.get("project")
        runtime.metrics.events.labels(action if action in EVENTS else "other").inc()
        g.log = {"action": action, "project": project.get("id") if isinstance(project, Mapping) else project}
        status = runtime.take_event(action, body)
        if status in ("postponed", "failed"):
            raise ServiceUnavailable(f"the event {action} cannot be written down now ({status})", retry_after=10)
        return _json({"status": status, "action": action})


def _body(memory: MemoryBudget) -> dict[str, Any]:
    """Returns the request's JSON object. Its memory is taken before it is parsed, until the request is answered."""
    if not request.is_json:
        # A web page can make its visitor's browser post anything but JSON to this machine.
        abort(415, f"the body is {request.mimetype or 'of no stated type'}; expected application/json")
    length = min(request.content_length or memory.total, request.max_content_length or memory.total)
    g.memory.enter_context(reserved(length, "the request's body"))
    with reserved(2 * length, "the request's body"):  # measuring it takes copies
        data = request.get_data(cache=False)
        shape = measure(data)
    if shape.depth > MOST_DEPTH:
        raise BadRequest(f"the body is nested {shape.depth} deep; expected at most {MOST_DEPTH}")
    if len(data) + shape.memory > memory.total // 2:
        abort(
            413, f"the body's objects take {shape.memory >> 20} MB; raise IHP_REQUEST_MEMORY_MB, or send less at once"
        )
    g.memory.enter_context(reserved(shape.memory, "the request's body"))
    return parse(data)


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        came = "is missing" if value is None else "is empty" if value == "" else f"is a {type(value).__name__}"
        raise BadRequest(f"`{name}` {came}; expected a string, as Label Studio sends it")
    return value


def _json(value: object, status: int = 200) -> Response:
    # Not flask's jsonify: NaN and infinity are not JSON and must not leave the process.
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Response(text, status, mimetype="application/json")


def _admit(app: Flask, admission: Admission) -> None:
    @app.before_request
    def check() -> None:
        if (refusal := admission.refusal(request.environ)) is not None:
            raise refusal


def _watch_requests(app: Flask, runtime: Runtime) -> None:
    @app.before_request
    def begin() -> None:
        given = request.headers.get("X-Request-ID", "")
        g.start = perf_counter()
        g.memory = ExitStack()
        g.memory.enter_context(limited_by(runtime.memory))
        request_id.set(given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex[:12])

    @app.after_request
    def end(response: Response) -> Response:
        seconds = perf_counter() - g.start
        route = request.url_rule.rule if request.url_rule else "unknown"
        runtime.metrics.requests.labels(route, str(response.status_code)).observe(seconds)
        response.headers["X-Request-ID"] = request_id.get()
        # Probes come every few seconds: they would drown the rest.
        level = logging.DEBUG if request.method == "GET" and response.status_code < 400 else logging.INFO
        line = fields(
            method=request.method,
            path=request.path,
            status=response.status_code,
            ms=seconds * 1000,
            **g.get("log", {}),
        )
        logger.log(level, "answered", extra=line)
        return response

    @app.teardown_request
    def forget(_: BaseException | None) -> None:
        request_id.set("")
        g.memory.close()


def _answer_errors_in_json(app: Flask) -> None:
    def answer(status: int, title: str, detail: str) -> Response:
        response = _json({"error": title, "detail": detail, "request_id": request_id.get()}, status)
        # Label Studio shows an annotator the status line and nothing else of a refused request.
        response.status = f"{status} {_CONTROL.sub(' ', detail)[:300]}"
        return response

    @app.errorhandler(413)
    def too_large(error: HTTPException) -> Response:
        limit = app.config["MAX_CONTENT_LENGTH"] // 2**20
        text = f"the request is larger than {limit} MB; raise IHP_MAX_BODY_MB"
        is_own = error.description not in (None, RequestEntityTooLarge.description)
        return answer(413, error.name, error.description or text if is_own else text)

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        status = error.code or 500
        response = answer(status, error.name, error.description or error.name)
        for name, value in error.get_headers():
            if name.lower() not in ("content-type", "content-length"):
                response.headers[name] = value
        return response

    def malformed(error: Exception) -> Response:
        title = "Label config" if isinstance(error, LabelConfigError) else "Malformed request"
        logger.warning("%s: %s", title, error)
        return answer(400, title, str(error))

    def unavailable(error: Exception) -> Response:
        return refused(ServiceUnavailable(str(error), retry_after=5))

    def over_budget(error: Exception) -> Response:
        is_temporary = isinstance(error, MemoryLimitError) and error.is_temporary
        logger.warning("%s", error)
        return refused(
            ServiceUnavailable(str(error), retry_after=5) if is_temporary else RequestEntityTooLarge(str(error))
        )

    app.register_error_handler(MemoryLimitError, over_budget)
    app.register_error_handler(ConnectionConflictError, lambda error: refused(Conflict(str(error))))
    app.register_error_handler(ModelUnavailableError, unavailable)
    app.register_error_handler(LabelConfigError, malformed)
    app.register_error_handler(RequestError, malformed)

    @app.errorhandler(RecursionError)
    def too_deep(_: RecursionError) -> Response:
        return malformed(RequestError("the request is nested too deep"))

    @app.errorhandler(Exception)
    def broken(error: Exception) -> Response:
        logger.exception("unexpected error: %s", error)
        return answer(500, "Internal error", "unexpected error; the server's log has it under this request id")
