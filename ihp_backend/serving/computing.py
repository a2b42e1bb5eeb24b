"""The few threads that run the network, in turn, and what they compute ahead."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from threading import BoundedSemaphore, Lock, Thread
from typing import Any, TypeVar

from ihp_backend.settings import Settings
from ihp_backend.telemetry import Metrics

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

QUIET_S = 1.0
"""After so long without a request nobody is thought to be clicking."""
_MOST_PREFETCHES = 2
"""So many things are done ahead at the same time; what more there is to do is left."""


class Computing:
    """Runs what keeps the processor or the GPU busy.

    Args:
        settings: How many threads there are, and how many cores each has.
        metrics: Take the times.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._cores = os.cpu_count() or 1
        count = settings.threads or max(min(2, self._cores), self._cores // 4)
        self._threads = ThreadPoolExecutor(count, "compute")
        self._torch_threads = settings.torch_threads
        self._metrics = metrics
        self._prefetching = BoundedSemaphore(_MOST_PREFETCHES)
        self._lock = Lock()
        self._running, self._busy_until = 0, -QUIET_S

    def run(self, work: Callable[[], Result], stage: str = "") -> Result:
        """Does work that keeps the processor or the GPU busy, in its turn, and returns its result or raises its error.

        Only these threads ever run the network, because OpenMP starts helper threads for each of them. Once there are
        more helpers than cores, OpenMP lets them sleep between two layers, and a click takes half as long again. So
        work that runs alone gets all cores, and work that runs beside other work gets a share of them.

        Args:
            work: What to do.
            stage: The stage of a request whose time this is, in the metrics, without the waiting; empty: of none.
        """

        def timed() -> Result:
            self._share_the_cores()
            with self._metrics.stage(stage) if stage else nullcontext():
                return work()

        with self._lock:
            self._running += 1
        try:
            return self._threads.submit(copy_context().run, timed).result()
        finally:
            with self._lock:
                self._running -= 1
                self._busy_until = time.monotonic()

    def _share_the_cores(self) -> None:
        import torch

        threads = self._torch_threads or max(1, self._cores // max(1, self._running))
        if torch.get_num_threads() != threads:  # to set it drops what torch keeps of each convolution
            torch.set_num_threads(threads)

    def run_when_quiet(self, work: Callable[[], Any], within_s: float = 30.0) -> bool:
        """Does work in the background, once nothing else has run for a second; returns whether it was done.

        Args:
            work: What to do; a request that comes meanwhile waits for its end.
            within_s: For how long it may wait for a quiet second.
        """
        until = time.monotonic() + within_s
        while (left := self._busy_until + QUIET_S - time.monotonic()) > 0 or self._running:
            if time.monotonic() > until:
                return False
            time.sleep(min(0.1, max(0.01, left)))
        self._threads.submit(work).result()
        return True

    def prefetch(self, steps: Callable[[], Iterable[Callable[[], Any]]]) -> Thread | None:
        """Starts to compute ahead what a next request may need. Requests may run between two steps.

        A failure is logged and not raised: the request that needs the result fails in the same way.

        Args:
            steps: Finds out what to do. This call is the first step.

        Returns:
            The thread that computes; ``None`` if nothing was started because others already compute ahead.
        """

        def work() -> None:
            try:
                for step in self.run(lambda: list(steps())):
                    self.run(step)
            except Exception:
                logger.warning("a photo could not be made ready", exc_info=True)
            finally:
                self._prefetching.release()

        if not self._prefetching.acquire(blocking=False):
            return None
        thread = Thread(target=work, name="prefetch", daemon=True)
        thread.start()
        return thread
