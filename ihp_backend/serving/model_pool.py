"""The models of the projects that were asked for last: each project's own version, loaded beside the one that answers.

A project has versions of each schema that it was trained for; its label config says which is asked for.

A promotion or a rollback is seen by a stat at each request, and by a watcher in between. Who has answered a project
goes on to do so until the new version is loaded, and while the registry cannot be read. A version that cannot be loaded
is passed over for the one before it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

from ihp_backend.learning.registry import BASE, Registry, RegistryError, Stamp, Version
from ihp_backend.logs import fields
from ihp_backend.telemetry import Metrics

if TYPE_CHECKING:
    from ihp_backend.inference.predictor import Predictor

logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""A project's id, and the schema that it is asked for."""

LOOK_EVERY_S = 0.5
TRY_AGAIN_S = 60.0
_MOST_PROJECTS = 1000


@dataclass(frozen=True)
class _Served:
    """What answers a project: ``predictor`` is ``None`` for the base weights, ``retry_at`` set if better was wanted."""

    stamp: Stamp | None
    predictor: Predictor | None
    retry_at: float | None = None


class ModelPool:
    """Keeps a bounded number of projects' models. May be shared between threads.

    Args:
        registry: Where the versions are.
        load: Makes the model of a folder of weights, ready to answer.
        most: How many models are kept; a project that is asked for again later waits until its own is loaded anew.
        metrics: Counts which version answers which project.
    """

    def __init__(self, registry: Registry, load: Callable[[Path], Predictor], most: int, metrics: Metrics) -> None:
        self._registry = registry
        self._load = load
        self._most = most
        self._metrics = metrics
        self._served: OrderedDict[Key, _Served] = OrderedDict()
        self._loading: dict[Key, Thread] = {}
        self._locks: defaultdict[Key, Lock] = defaultdict(Lock)
        self._lock = Lock()
        self._watcher: Thread | None = None

    def predictor(self, project: str, schema: str) -> Predictor | None:
        """Returns the model that answers a project now; ``None`` stands for the base weights.

        Only the first request of a project waits for its model.

        Args:
            project: Label Studio's id, such as ``"1.1795392500"``.
            schema: Name of the schema that its label config asks for.
        """
        key = (project, schema)
        served = self._known(key)
        if served is None:
            if self._stamp(key) is None:
                self._keep(key, _Served(None, None))
                return None
            return self._bring(key).predictor
        if self._is_old(key, served):
            self._bring_in_background(key)
        return served.predictor

    def version(self, project: str, schema: str) -> str | None:
        """Returns the version that answers, or that will in a moment; ``None`` for the base weights. Loads nothing."""
        key = (project, schema)
        served = self._known(key)
        if served is not None and not self._is_old(key, served):
            return served.predictor.version if served.predictor else None
        try:
            name = BASE if self._registry.stamp(project) is None else self._registry.current(project, schema)
        except OSError as error:
            logger.error("which version project %s is served cannot be read: %s", project, error)
            return served.predictor.version if served and served.predictor else None
        return None if name == BASE else name

    def watch(self) -> None:
        """Starts a thread that looks for new versions of the projects in use, so that no request has to."""
        with self._lock:
            if self._watcher is None:
                self._watcher = Thread(target=self._look_again_and_again, name="versions", daemon=True)
                self._watcher.start()

    def _look_again_and_again(self) -> None:
        pause = Event()
        while not pause.wait(LOOK_EVERY_S):
            with self._lock:
                served = list(self._served.items())
            for key, known in served:
                if self._is_old(key, known):
                    self._bring_in_background(key)

    def _known(self, key: Key) -> _Served | None:
        with self._lock:
            served = self._served.get(key)
            if served is not None:
                self._served.move_to_end(key)
            return served

    def _keep(self, key: Key, served: _Served) -> None:
        with self._lock:
            self._served[key] = served
            self._served.move_to_end(key)
            own = [name for name, known in self._served.items() if known.predictor is not None]
            for name in own[: max(0, len(own) - self._most)]:
                del self._served[name]
            while len(self._served) > _MOST_PROJECTS:
                self._served.popitem(last=False)

    def _is_old(self, key: Key, served: _Served) -> bool:
        is_due = served.retry_at is not None and monotonic() >= served.retry_at
        return is_due or served.stamp != self._stamp(key, served)

    def _stamp(self, key: Key, served: _Served | None = None) -> Stamp | None:
        """Returns the registry's stamp; as long as it cannot be read, that of what is served."""
        try:
            return self._registry.stamp(key[0])
        except OSError:
            return served.stamp if served else None

    def _bring_in_background(self, key: Key) -> None:
        with self._lock:
            running = self._loading.get(key)
            if running is None or not running.is_alive():
                thread = Thread(target=self._bring, args=(key,), name=f"load {key[0]}", daemon=True)
                self._loading[key] = thread
                thread.start()

    def _bring(self, key: Key) -> _Served:
        """Loads what a project should be answered with, once however many ask."""
        with self._lock:
            mine = self._locks[key]
        with mine:
            served = self._known(key)
            if served is not None and not self._is_old(key, served):
                return served
            stamp = self._stamp(key, served)  # before the look inside: a change after it is seen next time
            predictor, retry_at = self._best(key, served)
            new = _Served(stamp, predictor, retry_at)
            self._keep(key, new)
            self._metrics.serve(key[0], predictor.version if predictor else BASE)
            return new

    def _best(self, key: Key, served: _Served | None) -> tuple[Predictor | None, float | None]:
        """Returns the first version that loads, and when to try for a better one."""
        project = key[0]
        old = served.predictor if served else None
        again_at = monotonic() + TRY_AGAIN_S
        try:
            wanted, candidates = self._registry.current(*key), list(self._registry.candidates(*key))
        except OSError as error:
            logger.error("the versions of project %s cannot be read: %s", project, error)
            return old, again_at
        for version in candidates:
            if old is not None and old.version == version.name:
                return old, None if version.name == wanted else again_at
            start = perf_counter()
            try:
                predictor = self._loaded(version)
            except Exception as error:
                logger.error(
                    "version %s of project %s cannot be served, so the one before it is: %s",
                    version.name,
                    project,
                    error,
                )
                continue
            line = fields(project=project, version=version.name, seconds=perf_counter() - start)
            logger.info("version loaded", extra=line)
            return predictor, None if version.name == wanted else again_at
        return None, None if wanted == BASE else again_at

    def _loaded(self, version: Version) -> Predictor:
        self._registry.check(version)
        predictor = self._load(version.folder)
        if predictor.version != version.name:
            raise RegistryError(f"{version.folder} says it is {predictor.version!r}; expected {version.name!r}")
        return predictor
