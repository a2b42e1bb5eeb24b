"""gunicorn's worker process: the front on its sockets, and its signals."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from functools import partial

from gunicorn.workers.base import Worker as BaseWorker

from ihp_backend.serving.connection import HttpConnection
from ihp_backend.serving.front import Front, Policy

_BEAT_S = 1.0
_BUFFER = 1 << 16
_ACCEPTED = 64
"""So many connections are taken at a time: what they send is looked at before more of them come."""
_MOST_FILES = 8192


class Worker(BaseWorker):  # type: ignore[misc]  # gunicorn is untyped
    """Answers on ``threads`` threads; SIGTERM lets the requests that are there be answered."""

    def run(self) -> None:
        """Serves until a signal, or until the arbiter is gone."""
        least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = _MOST_FILES if most == resource.RLIM_INFINITY else min(most, _MOST_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(least, allowed), most))
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        policy = getattr(self.wsgi, "extensions", {}).get("ihp_front", Policy())
        front = Front(self.wsgi, self.cfg.threads, policy)
        servers = [
            await asyncio.start_server(
                partial(HttpConnection.serve, front), sock=listener.sock, limit=_BUFFER, backlog=_ACCEPTED
            )
            for listener in self.sockets
        ]
        for listener in self.sockets:
            listener.sock.listen(self.cfg.backlog)
        while not stop.is_set() and self.ppid == os.getppid():
            self.notify()
            await asyncio.to_thread(policy.every_second)
            try:
                async with asyncio.timeout(_BEAT_S):
                    await stop.wait()
            except TimeoutError:
                pass
        self.alive = False
        for server in servers:
            server.close()
        await front.stop(self.cfg.graceful_timeout)
