"""The front on a socket of its own, around any WSGI application, with limits that a test can wait for."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from wsgiref.types import WSGIApplication

from ihp_backend.serving.connection import HttpConnection
from ihp_backend.serving.front import Front, Policy


@contextmanager
def fronted(application: WSGIApplication, policy: Policy, threads: int = 2) -> Iterator[tuple[int, Front]]:
    """Serves an application; gives the port, and the front to look at."""
    loop = asyncio.new_event_loop()
    made: list[Front] = []

    async def start() -> asyncio.Server:
        made.append(Front(application, threads, policy))
        return await asyncio.start_server(partial(HttpConnection.serve, made[0]), "127.0.0.1", 0)

    server = loop.run_until_complete(start())
    port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield port, made[0]
    finally:
        loop.call_soon_threadsafe(server.close)
        try:
            asyncio.run_coroutine_threadsafe(made[0].stop(5), loop).result(30)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def connect(port: int, data: bytes = b"") -> socket.socket:
    """A connection that has sent some bytes."""
    opened = socket.create_connection(("127.0.0.1", port), 10)
    opened.sendall(data)
    return opened


def all_of(opened: socket.socket) -> bytes:
    """What comes until the other side closes; an error if it resets."""
    return b"".join(iter(partial(opened.recv, 1 << 16), b""))


def echo(seen: list[bytes] | None = None) -> WSGIApplication:
    """An application that answers with the body that came."""

    def application(environ: dict[str, object], start_response: Callable[..., object]) -> list[bytes]:
        body = environ["wsgi.input"].read()  # type: ignore[attr-defined]
        if seen is not None:
            seen.append(body)
        start_response("200 Fine, thanks", [("Content-Length", str(len(body)))])
        return [body]

    return application
