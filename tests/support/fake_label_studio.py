"""A Label Studio on loopback that hands out tokens and uploads, and misbehaves on request."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

LEGACY = "0123456789abcdef0123456789abcdef01234567"


def jwt(life_s: float, number: int = 0) -> str:
    now = 1_000_000  # a clock that is not this machine's
    parts = [{"alg": "none"}, {"iat": now, "exp": now + life_s, "jti": number}]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + ".sig"


PERSONAL = jwt(1e9)


class FakeLabelStudio:
    """Serves ``files`` to who is authorised, ``routes`` to anybody, and an API of a few paths."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.routes: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.valid_access: set[str] = set()
        self.access_life_s = 300.0
        self.exchanges = 0
        self.delay_s = 0.0
        self.bodies: list[Any] = []
        self._lock = Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def handle(self) -> None:
                with suppress(ConnectionError, TimeoutError):  # the client hung up, as it should
                    super().handle()

            def do_GET(self) -> None:
                fake.answer(self, None)

            def do_POST(self) -> None:
                fake.answer(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            do_PATCH = do_POST  # noqa: N815
            do_DELETE = do_GET  # noqa: N815

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def expire(self) -> None:
        """Makes all access tokens handed out so far worthless."""
        self.valid_access.clear()

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.requests]

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes | None) -> None:
        given = handler.headers.get("Authorization")
        path = handler.path
        with self._lock:
            self.requests.append((handler.command, path, given))
        time.sleep(self.delay_s)
        if path in self.routes:
            return self.routes[path](handler)
        if path == "/api/token/refresh":
            return self._exchange(handler, json.loads(body or b"{}"))
        scheme, _, token = (given or "").partition(" ")
        if not ((scheme == "Token" and token == LEGACY) or (scheme == "Bearer" and token in self.valid_access)):
            return reply(handler, 401, {"detail": f"Invalid token {token}."})
        if path in self.files:
            return reply(handler, 200, self.files[path])
        return self._api(handler, path, body)

    def _exchange(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        if body.get("refresh") != PERSONAL:
            return reply(handler, 401, {"detail": "Token is invalid"})
        with self._lock:
            self.exchanges += 1
            access = jwt(self.access_life_s, self.exchanges)
            self.valid_access.add(access)
        return reply(handler, 200, {"access": access})

    def _api(self, handler: BaseHTTPRequestHandler, path: str, body: bytes | None) -> None:
        url = urlsplit(path)
        query = {name: int(values[0]) for name, values in parse_qs(url.query).items() if values[0].isdecimal()}
        if body is not None and handler.headers.get_content_type() == "application/json":
            self.bodies.append(json.loads(body))
        if url.path == "/api/current-user/whoami":
            return reply(handler, 200, {"id": 1, "email": "a@b.c"})
        if url.path == "/api/tasks/":
            first = (query["page"] - 1) * query["page_size"]
            tasks = [{"id": number} for number in range(7)][first : first + query["page_size"]]
            return reply(handler, 200, {"tasks": tasks, "total": 7})
        if url.path.endswith("/import"):
            files = (body or b"").count(b"filename=")
            return reply(handler, 201, {"task_count": files or len(self.bodies[-1])})
        if handler.command in ("POST", "PATCH"):
            return reply(handler, 201, {"id": 5} | self.bodies[-1])
        return reply(handler, 404, {"detail": "Not found."})


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes | dict[str, Any] = b"", **headers: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def presign(uri: str, task: int = 7) -> str:
    return f"/tasks/{task}/presign/?fileuri={base64.urlsafe_b64encode(uri.encode()).decode()}"
