"""What carries jobs: huey over a SQLite file or Redis, with JSON for messages, and who takes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from huey import Huey, PriorityRedisHuey, SqliteHuey
from huey.consumer import Consumer
from huey.registry import Message
from huey.serializer import Serializer
from redis import ConnectionPool

_REDIS_S = 5.0
FIRST = 1
"""Priority of what does not wait behind thousands of jobs."""


def open_queue(url: str, folder: Path) -> Huey:
    """Opens the queue.

    Args:
        url: Of a Redis, or an empty string.
        folder: Where the SQLite file is, without a Redis; made if missing.

    Raises:
        OSError: If the folder cannot be made.
    """
    options = {"results": False, "serializer": _JsonSerializer()}
    if url:
        pool = ConnectionPool.from_url(url, socket_connect_timeout=_REDIS_S, socket_timeout=_REDIS_S)
        return PriorityRedisHuey("ihp-work", connection_pool=pool, **options)
    folder.mkdir(parents=True, exist_ok=True)
    return SqliteHuey("ihp", filename=str(folder / "queue.sqlite"), **options)


class OrderlyConsumer(Consumer):  # type: ignore[misc]  # huey is untyped
    """Does one job after the other, and stops in order at SIGTERM, too. Its ``stop_flag`` ends it after the job.

    Args:
        huey: The queue.
        on_stop: Is called when a signal asks to stop, to let the job end.
        grace_s: How long it may take to end, in seconds.
    """

    def __init__(self, huey: Huey, on_stop: Callable[[], None], *, grace_s: float) -> None:
        pace = {"initial_delay": 0.5, "max_delay": 1.0, "backoff": 1.0}
        super().__init__(huey, workers=1, periodic=False, shutdown_timeout=grace_s, **pace)
        self._when_stopped = on_stop

    def stop(self, graceful: bool = False) -> None:
        """Ends the work, and waits for it."""
        self._when_stopped()
        super().stop(graceful=True)


class _JsonSerializer(Serializer):  # type: ignore[misc]  # huey is untyped
    """Messages as JSON: huey's own are pickles, which run what whoever reaches the queue puts in."""

    def _serialize(self, data: Any) -> bytes:
        values = data._asdict() if isinstance(data, Message) else {"value": data}
        return json.dumps(values, default=datetime.isoformat).encode()

    def _deserialize(self, data: bytes) -> Any:
        values = json.loads(data)
        return values["value"] if "value" in values else Message(**values)
