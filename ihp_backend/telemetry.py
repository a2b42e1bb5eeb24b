"""What the process counts and times, in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from time import perf_counter

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
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
