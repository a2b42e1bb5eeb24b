"""A request that is all there, as WSGI has it, and the application's answer to it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import IO, Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

import h11

logger = logging.getLogger(__name__)

Address = tuple[str, int]


@dataclass(frozen=True)
class HttpAnswer:
    """A response of the application: status and reason, headers as bytes, and the whole body."""

    status: int
    reason: str
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


def environ_of(request: h11.Request, client: Address, server: Address) -> WSGIEnvironment:
    """Returns PEP 3333's environ of a request whose body is empty, or comes later as ``wsgi.input``.

    Headers with an underscore in their name are left out: they would pass for those with a hyphen.

    Args:
        request: Its head.
        client: Address and port of who sent it.
        server: Address and port that it came to.
    """
    target = request.target.decode("latin-1")
    if "://" in target.partition("?")[0]:  # as proxies are asked
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method.decode("ascii"),
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "RAW_URI": target,
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{request.http_version.decode('ascii')}",
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        if "_" in name:
            continue
        key = name.upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        joint = "; " if key == "HTTP_COOKIE" else ","
        environ[key] = f"{environ[key]}{joint}{value}" if key in environ else value
    return environ


def call(application: WSGIApplication, environ: WSGIEnvironment, body: IO[bytes] | None = None) -> HttpAnswer:
    """Lets the application answer. What it raises becomes a 500.

    Args:
        application: The application.
        environ: Of ``environ_of``.
        body: The request's body, from its beginning.
    """
    if body is not None:
        environ["wsgi.input"] = body
    begun: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
        begun.append((status, headers))
        return lambda data: None

    try:
        parts: Iterable[bytes] = application(environ, start_response)
        try:
            content = b"".join(parts)
        finally:
            if hasattr(parts, "close"):
                parts.close()
        status, headers = begun[-1]
        code, _, reason = status.partition(" ")
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return HttpAnswer(int(code), reason, encoded, content)
    except Exception:
        logger.exception("the application failed")
        return failure(500, "unexpected error; the server's log has it")


def failure(status: int, detail: str, retry_after: int | None = None) -> HttpAnswer:
    """Returns an answer in the form of the application's errors, for what never comes to it."""
    body = json.dumps({"error": HTTPStatus(status).phrase, "detail": detail}).encode()
    headers = [(b"Content-Type", b"application/json"), (b"Content-Length", str(len(body)).encode())]
    if retry_after is not None:
        headers.append((b"Retry-After", str(retry_after).encode()))
    return HttpAnswer(status, detail, headers, body)
