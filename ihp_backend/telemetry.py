"""What the process counts and times, in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from time import perf_counter

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.02,
    0.03,
    0.045,
    0.06,
    0.08,
    0.1,
    0.15,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    100,
)


class Metrics:
    """One set of counters, with a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Histogram(
            "ihp_request_seconds",
            "Time to answer a request",
            ("route", "status"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._stages = Histogram(
            "ihp_stage_seconds",
            "Time of one stage of a prediction",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.predicting = Gauge("ihp_predict_in_flight", "Predictions that run or wait", registry=registry)
        self.refused = Counter("ihp_predict_refused", "Predictions refused by the queue limit", registry=registry)
        self.unread = Counter(
            "ihp_http_unread", "Requests that did not come to the application", ("reason",), registry=registry
        )
        self.failures = Counter(
            "ihp_task_failures", "Tasks answered with an empty result", ("reason",), registry=registry
        )
        self.events = Counter("ihp_webhook_events", "Webhook events received", ("action",), registry=registry)
        self.model = Gauge("ihp_model_loaded", "1 for the base weights in memory", ("version",), registry=registry)
        self._versions = Gauge(
            "ihp_project_version", "1 for the version that answers a project", ("project", "version"), registry=registry
        )
        self._version_of: dict[str, str] = {}
        self._lock = Lock()

    def serve(self, project: str, version: str) -> None:
        """Notes which version answers a project from now on."""
        with self._lock:
            before = self._version_of.get(project)
            if before is not None and before != version:
                self._versions.remove(project, before)
            self._version_of[project] = version
            self._versions.labels(project, version).set(1)

    def add(self, collector: Collector) -> None:
        """Takes in what something else counts, read at every rendering."""
        self._registry.register(collector)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a block as one stage of a prediction, whether or not it succeeds."""
        start = perf_counter()
        try:
            yield
        finally:
            self._stages.labels(name).observe(perf_counter() - start)

    def render(self) -> bytes:
        """Returns all of it in Prometheus' text format."""
        return generate_latest(self._registry)


class MemoryCounts(Collector):
    """What caches keep and how often they help, and the memory of a GPU, read at each scrape.

    Args:
        caches: Tells hits, misses and bytes of each cache.
        gpu: Tells bytes of GPU memory by kind; nothing where there is none.
    """

    def __init__(
        self, caches: Callable[[], Mapping[str, tuple[int, int, int]]], gpu: Callable[[], Mapping[str, int]]
    ) -> None:
        self._caches = caches
        self._gpu = gpu

    def collect(self) -> Iterator[Metric]:
        """Yields hits, misses and size of each cache, and the GPU's memory."""
        hits = CounterMetricFamily("ihp_cache_hits", "Lookups that found the value", labels=("cache",))
        misses = CounterMetricFamily("ihp_cache_misses", "Lookups that had to load the value", labels=("cache",))
        size = GaugeMetricFamily("ihp_cache_bytes", "Memory that a cache keeps", labels=("cache",))
        for name, (found, loaded, kept) in self._caches().items():
            hits.add_metric((name,), found)
            misses.add_metric((name,), loaded)
            size.add_metric((name,), kept)
        memory = GaugeMetricFamily("ihp_gpu_memory_bytes", "GPU memory: used by us, free, all", labels=("kind",))
        for kind, count in self._gpu().items():
            memory.add_metric((kind,), count)
        yield from (hits, misses, size, memory)
