"""gunicorn's worker with threads, of which none waits for a request that is only half there."""

from __future__ import annotations

import time
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

_END_OF_HEAD = b"\r\n\r\n"
_MOST_HEAD = 2**16
"""A longer head is gunicorn's to refuse."""
_HEAD_S = 10.0


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is untyped
    """Gives a connection to a thread once the head of its request is there.

    gunicorn's own worker lets a thread wait for the rest of a head without a limit: as many half requests as there are
    threads would stop the server, /live included, whoever sends them.
    """

    def enqueue_req(self, conn: Any) -> None:
        """Takes a connection that is new or can be read; called by the main thread."""
        if conn.parser is not None and conn.parser.unreader.buf.getvalue():
            super().enqueue_req(conn)  # the next request came with the last one
            return
        conn.sock.setblocking(False)
        data: bytes | None
        try:
            data = conn.sock.recv(_MOST_HEAD)
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        head, until = getattr(conn, "head", (b"", time.monotonic() + _HEAD_S))
        head += data or b""
        if data == b"" or _END_OF_HEAD in head or len(head) >= _MOST_HEAD:
            conn.__dict__.pop("head", None)
            conn.init()
            conn.parser.unreader.unread(head)
            super().enqueue_req(conn)
            return
        conn.head, conn.timeout = (head, until), until
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))
