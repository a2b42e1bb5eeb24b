"""What stands between the network and the application's threads: a thread gets a request once all of it is there.

One event loop reads heads and bodies, however slowly they drip, and writes answers, however slowly they are taken. Each
has a time limit. All connections together have limits on their number and bytes; above a limit, the connection that has
waited longest is dropped. So a client holds a thread only while the application works on its request. A request that is
refused by its head alone, such as one without the password, is answered before its body is read, and its connection is
closed. /live and /ready are answered in the loop, and other requests about the server's health have threads of their
own: they are answered even when all else is stuck.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Protocol
from wsgiref.types import WSGIApplication, WSGIEnvironment

from ihp_backend.serving.wsgi_call import HttpAnswer, call

logger = logging.getLogger(__name__)

_IN_LOOP = ("/live", "/ready")
_PROBES = ("/", "/health", "/metrics")
PROBE_THREADS = 4
LOOKED_AT_S = 1.0


@dataclass(frozen=True)
class Limits:
    """What connections may take.

    Attributes:
        connections: Open at the same time.
        burst: Open for a moment, while the first bytes of new ones are read: some requests are answered at once.
        answering: Requests that the application has at the same time, running or waiting for a thread.
        probing: The same for requests about the server's health.
        head_bytes: Longest head of a request.
        head_s: A head must be there so many seconds after its first byte, or after the connection was made.
        idle_s: So long a connection is kept for a next request.
        body_bytes: Largest body.
        body_s: A body must be there after so many seconds, and one more for each ``bytes_a_second`` that came.
        pause_s: Longest pause in a body.
        in_memory: A larger body is on disk while it comes.
        bodies_bytes: All bodies that are there or coming, together.
        answer_s: An answer must be taken in that time, and a second more for each ``bytes_a_second`` of it.
        answers_bytes: All answers that are not taken yet, together.
        bytes_a_second: The slowest line.
        linger_s: So long a refused client may go on to send, so that it reads the answer.
    """

    connections: int = 400
    burst: int = 1000
    answering: int = 300
    probing: int = 100
    head_bytes: int = 1 << 16
    head_s: float = 10.0
    idle_s: float = 30.0
    body_bytes: int = 64 << 20
    body_s: float = 20.0
    pause_s: float = 10.0
    in_memory: int = 1 << 18
    bodies_bytes: int = 1 << 30
    answer_s: float = 20.0
    answers_bytes: int = 64 << 20
    bytes_a_second: float = 100_000.0
    linger_s: float = 1.0


@dataclass(frozen=True)
class Policy:
    """What an application tells its server, as ``app.extensions["ihp_front"]``.

    Attributes:
        limits: What connections may take.
        refuses: Whether the application will refuse a request, by its head alone; called in the event loop.
        count: Is told why a request did not come to the application.
        spool: Folder for large bodies while they come; ``None``: the system's for temporary files.
        every_second: Is called so often, on a thread of its own.
    """

    limits: Limits = Limits()
    refuses: Callable[[WSGIEnvironment], bool] = lambda environ: False
    count: Callable[[str], object] = lambda reason: None
    spool: Path | None = None
    every_second: Callable[[], object] = lambda: None


class Waiting(Protocol):
    """What the front knows of a connection when it chooses one to drop.

    Attributes:
        peer: Address of the other side.
        since: When it began to do what it does now, by the loop's clock.
        is_answering: The application has its request.
        is_probe: Its request asks for the server's health.
        is_half: A part of a request came; the rest is awaited.
        body_bytes: Taken by its body.
        unsent: Bytes of its answer that are not taken yet.
    """

    peer: str
    since: float
    is_answering: bool
    is_probe: bool
    is_half: bool
    body_bytes: int
    unsent: int

    def drop(self) -> None:
        """Ends it at once."""


def is_answered_in_loop(environ: WSGIEnvironment, body: IO[bytes] | None) -> bool:
    """Whether a request asks for what takes no time, and can be answered whatever else is stuck."""
    return body is None and environ["PATH_INFO"] in _IN_LOOP


def is_probe(environ: WSGIEnvironment, body: IO[bytes] | None) -> bool:
    """Whether a request asks for the server's health, and can do so at any time."""
    return body is None and environ["PATH_INFO"] in (*_IN_LOOP, *_PROBES)


class NoRoomError(Exception):
    """There is no room for a body, in memory or on disk."""


class Front:
    """The application, its threads, and what all connections share. Lives in one event loop.

    Args:
        application: The WSGI application.
        threads: Requests that it answers at the same time.
        policy: Limits, and what is refused early.
    """

    def __init__(self, application: WSGIApplication, threads: int, policy: Policy) -> None:
        self.policy = policy
        self.limits = policy.limits
        self.is_stopping = False
        self.connections: dict[Waiting, None] = {}
        self._application = application
        self._threads = ThreadPoolExecutor(threads, "request")
        self._probes = ThreadPoolExecutor(PROBE_THREADS, "probe")

    async def answer(self, environ: WSGIEnvironment, body: IO[bytes] | None) -> HttpAnswer:
        """Lets the application answer a request that is all there."""
        if is_answered_in_loop(environ, body):
            return self.answer_at_once(environ)
        threads = self._probes if is_probe(environ, body) else self._threads
        return await asyncio.get_running_loop().run_in_executor(threads, call, self._application, environ, body)

    def answer_at_once(self, environ: WSGIEnvironment) -> HttpAnswer:
        """Lets the application answer a request that takes no time, such as one that it refuses by its head."""
        return call(self._application, environ)

    def has_place(self, environ: WSGIEnvironment, body: IO[bytes] | None) -> bool:
        """Whether a request may go to the application; what the loop answers always may.

        One address has three quarters of the places at most: others do not pay for it.
        """
        if is_answered_in_loop(environ, body):
            return True
        for_probe = is_probe(environ, body)
        most = self.limits.probing if for_probe else self.limits.answering
        taken = [c.peer for c in self.connections if c.is_answering and c.is_probe == for_probe]
        return len(taken) < most and taken.count(environ["REMOTE_ADDR"]) < most - most // 4

    def make_room(self, body_bytes: int = 0) -> None:
        """Drops the connection that has waited longest, if there are too many connections, bodies or untaken answers.

        Of the peer that has most of them: others do not pay for it.

        Args:
            body_bytes: Of a body that is to come.
        """
        limits, soon = self.limits, asyncio.get_running_loop().time() - LOOKED_AT_S

        def was_looked_at(c: Waiting) -> bool:
            return c.is_half or c.since < soon or len(self.connections) > limits.burst

        while len(self.connections) > limits.connections:
            if not self._drop("too many connections", lambda c: not c.is_answering, was_looked_at):
                break
        while self._bodies() + body_bytes > limits.bodies_bytes:
            if not self._drop("too many bodies", lambda c: c.body_bytes > 0 and not c.is_answering):
                break
        if sum(c.unsent for c in self.connections) > limits.answers_bytes:
            self._drop("answers that nobody takes", lambda c: c.unsent > 0)

    def place(self, size: int) -> IO[bytes]:
        """Returns a file for a body, in memory or on disk, where its room is taken at once.

        Raises:
            NoRoomError: If there is no room.
        """
        if size <= self.limits.in_memory:
            return BytesIO()
        if self._bodies() + size > self.limits.bodies_bytes:
            raise NoRoomError("requests that are being answered take all the room there is; try again in a moment")
        file: IO[bytes] | None = None
        try:
            file = TemporaryFile(dir=self.policy.spool)  # noqa: SIM115 (the caller's)
            os.posix_fallocate(file.fileno(), 0, size)
            return file
        except OSError as error:
            if file is not None:
                file.close()
            if self._bodies() + size > 2 * self.limits.body_bytes:
                raise NoRoomError(f"a request of {size} bytes finds no room on disk: {error.strerror}") from None
            return BytesIO()

    async def stop(self, grace_s: float) -> None:
        """Closes connections that wait, and lets the requests that are there be answered."""
        self.is_stopping = True
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_s
        while self.connections and loop.time() < until:
            for connection in list(self.connections):
                if not connection.is_answering:
                    connection.drop()
            await asyncio.sleep(0.02)
        for threads in (self._threads, self._probes):
            threads.shutdown(wait=False, cancel_futures=True)

    def _bodies(self) -> int:
        return sum(c.body_bytes for c in self.connections)

    def _drop(
        self, reason: str, which: Callable[[Waiting], bool], may_go: Callable[[Waiting], bool] = lambda c: True
    ) -> bool:
        those = [c for c in self.connections if which(c)]
        of_peer = Counter(c.peer for c in those)
        most = max(of_peer.values(), default=0)
        found = min((c for c in those if of_peer[c.peer] == most and may_go(c)), key=lambda c: c.since, default=None)
        if found is not None:
            self.policy.count(reason)
            logger.warning("a client is dropped: %s", reason)
            found.drop()
        return found is not None
