"""What the threads of one process share: the model, the images, the known Label Studios, the counters."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from pathlib import Path
from threading import BoundedSemaphore, Lock, Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ihp_backend.annotation.workbench import Workbench
from ihp_backend.cache import LoadingCache
from ihp_backend.label_studio.client import LabelStudioError
from ihp_backend.label_studio.connections import Connection, Connections
from ihp_backend.label_studio.images import ImageError, ImageLoader
from ihp_backend.learning.queue import TrainingQueue
from ihp_backend.learning.records import TrainingCounts
from ihp_backend.learning.registry import Registry
from ihp_backend.learning.triggers import Triggers
from ihp_backend.logs import fields
from ihp_backend.network.weights_folder import version_of
from ihp_backend.serving.model_pool import ModelPool
from ihp_backend.settings import Settings
from ihp_backend.telemetry import MemoryCounts, Metrics

if TYPE_CHECKING:
    from ihp_backend.inference.predictor import Predictor

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_MOST_AT_LEISURE = 2
"""So many things are done ahead at the same time; what more there is to do is left."""


class ModelUnavailableError(RuntimeError):
    """The model could not be loaded; the message says why."""


class Runtime:
    """The shared state of one process. Cheap to make: the model loads at its first use, or by ``preload``.

    Args:
        settings: The deployment's options.
        load_predictor: Makes the base model; by default, from the settings' weights and device.
        read_version: Tells its version before it is loaded; by default, from the settings' weights.
        load_version: Makes the model of a project's own version, from its folder; by default, on the settings' device.
    """

    def __init__(
        self,
        settings: Settings,
        load_predictor: Callable[[], Predictor] | None = None,
        read_version: Callable[[], str] | None = None,
        load_version: Callable[[Path], Predictor] | None = None,
    ) -> None:
        self.settings = settings
        self.images = ImageLoader(settings)
        self.connections = Connections(settings.data_dir / "connections")
        self.workbench = Workbench()
        self.answers: LoadingCache[str, dict[str, Any]] = LoadingCache(0, lambda answer: 1)
        self._computing = _compute_threads(settings)
        self.metrics = Metrics()
        self.registry = Registry(settings.data_dir / "versions")
        load = load_version or self._load_ready
        self.projects = ModelPool(
            self.registry, lambda folder: self.compute(lambda: load(folder)), settings.models_in_memory, self.metrics
        )
        self.trainings = TrainingQueue(settings)
        self.metrics.add(TrainingCounts(self.trainings.records))
        self.metrics.add(MemoryCounts(self._caches, _gpu_memory))
        self.triggers = Triggers(settings, self.trainings)
        self._load_predictor = load_predictor or (lambda: self._load_ready(settings.weights))
        self._read_version = read_version or (lambda: version_of(settings.weights))
        self._predictor: Predictor | None = None
        self._failure = ""
        self._lock = Lock()
        self._preloader: Thread | None = None
        self._preload_lock = Lock()
        self._at_leisure = BoundedSemaphore(_MOST_AT_LEISURE)

    @property
    def is_ready(self) -> bool:
        """Whether a click would be answered without waiting for the model to load."""
        return self._predictor is not None

    @property
    def failure(self) -> str:
        """Why the model could not be loaded, or an empty string."""
        return self._failure

    def predictor(self, project: str | None = None) -> Predictor:
        """Returns the model of a project, loaded by whichever thread asks first; the others wait for it.

        It is the project's own version, or the base model if there is none, or none that loads. A failed load is tried
        again at the next call, so that weights put right are found without a restart.

        Args:
            project: Label Studio's id, such as ``"1.1795392500"``; ``None`` for the base model.

        Raises:
            ModelUnavailableError: If there is no version, and the base weights cannot be loaded.
        """
        own = self.projects.predictor(project) if project else None
        if own is not None:
            return own
        if self._predictor is not None:
            return self._predictor
        with self._lock:
            if self._predictor is None:
                start = perf_counter()
                try:
                    self._predictor = self.compute(self._load_predictor)
                except Exception as error:
                    self._failure = str(error)
                    raise ModelUnavailableError(f"the model could not be loaded: {error}") from error
                self._failure = ""
                version = self._predictor.version
                self.metrics.model.labels(version).set(1)
                logger.info("model loaded", extra=fields(version=version, seconds=perf_counter() - start))
            return self._predictor

    def compute(self, work: Callable[[], Result]) -> Result:
        """Does work that keeps the processor or the GPU busy, in its turn, and returns its result or raises its error.

        Only these few threads ever run the network. Each thread that does has helpers of its own, which OpenMP lets
        sleep between two layers as soon as there are more of them than cores: then a click takes half as long again.
        """
        return self._computing.submit(copy_context().run, work).result()

    def preload(self) -> Thread:
        """Starts to load the base model in the background, and returns the thread that does it."""

        def load() -> None:
            try:
                self.predictor()
            except ModelUnavailableError as error:
                logger.error("%s; the next request tries again", error)

        with self._preload_lock:
            if self._preloader is None or not (self._preloader.is_alive() or self.is_ready):
                self._preloader = Thread(target=load, name="preload", daemon=True)
                self._preloader.start()
            return self._preloader

    def at_leisure(self, steps: Callable[[], Iterable[Callable[[], Any]]]) -> Thread | None:
        """Starts to do ahead what a next request may need, one step at a time, so that requests come in between.

        A failure is logged: whoever needs it will meet it again.

        Args:
            steps: Finds out what to do; it is a step itself.

        Returns:
            The thread that does it; ``None`` if enough is being done, and nothing was started.
        """

        def work() -> None:
            try:
                for step in self.compute(lambda: list(steps())):
                    self.compute(step)
            except Exception:
                logger.warning("a photo could not be made ready", exc_info=True)
            finally:
                self._at_leisure.release()

        if not self._at_leisure.acquire(blocking=False):
            return None
        thread = Thread(target=work, name="at-leisure", daemon=True)
        thread.start()
        return thread

    def version(self, project: str | None = None) -> str:
        """Returns the version that answers, or that will: no model is loaded, for the base weights info.json is read.

        Args:
            project: Label Studio's id; ``None`` for the base model.

        Raises:
            ModelUnavailableError: If there are no such weights, or they could not be loaded when last tried.
        """
        if project and (own := self.projects.version(project)):
            return own
        if self._predictor is not None:
            return self._predictor.version
        failure = self._failure
        self.preload()
        if failure:
            raise ModelUnavailableError(f"the model could not be loaded: {failure}")
        try:
            return self._read_version()
        except Exception as error:
            raise ModelUnavailableError(f"the model could not be loaded: {error}") from error

    def connection(self, project: str | None) -> Connection | None:
        """Returns where a project's images and annotations come from: the settings, else its last /setup.

        The token of the settings goes to the address of the settings only, never to one that a request named.

        Raises:
            RequestError: If the project's name could not be a file's.
        """
        return self._known(self.connections.find(project) if project else None)

    def connection_of_number(self, number: int) -> Connection | None:
        """Returns where the project of a number comes from: the settings, else the last /setup of that number."""
        return self._known(self.connections.find_number(number))

    def project_of(self, given: object) -> str | None:
        """Returns the id under which a project's versions and address are kept, such as ``"1.1795392500"``.

        Label Studio sends it in full; the ML SDK's own server of 2.x passes the number alone.

        Args:
            given: The id, or the number; ``None``, an empty text, or ``"None"``, as that server writes it, if there is
                none.

        Returns:
            The id that was connected last of those with that number, else that of the youngest with versions; what was
            given if there is none.
        """
        text = str(given).strip() if isinstance(given, str | int) else ""
        if not text or text == "None":
            return None
        if not re.fullmatch("[0-9]{1,18}", text):
            return text
        if (told := self.connections.name_of(int(text))) is not None:
            return told
        found = [name for name in self.registry.projects() if name.partition(".")[0] == text]
        return max(found, key=lambda name: (len(name), name), default=text)

    def trusted(self, connection: Connection) -> bool:
        """Whether an address may be asked whatever it is: it is in the settings, or who told it can be believed."""
        return connection.hostname == self.settings.label_studio_url or self.settings.only_known_callers

    def _known(self, told: Connection | None) -> Connection | None:
        if url := self.settings.label_studio_url:
            token = self.settings.label_studio_token or (told.token if told else "")
            return Connection(url, token, told.hostname if told else "")
        return told

    def try_connection(self, number: int) -> dict[str, Any]:
        """Asks the Label Studio of a project who the token's user is.

        Args:
            number: The project's number in Label Studio.

        Returns:
            ``hostname``, ``reachable``, and ``reason`` if it is not.
        """
        known = self.connection_of_number(number)
        if known is None or not known.hostname:
            return {"hostname": "", "reachable": False, "reason": "Label Studio has not told its address in /setup"}
        try:
            self.images.check(known.hostname, known.token)
        except (ImageError, LabelStudioError) as error:
            return {"hostname": known.hostname, "reachable": False, "reason": str(error)}
        return {"hostname": known.hostname, "reachable": True}

    def _caches(self) -> dict[str, tuple[int, int, int]]:
        images = self.images.cache
        found = {"images": (images.hits, images.misses, images.size)}
        engine = getattr(self._predictor, "engine", None)
        if engine is not None:
            found["features"] = (engine.features.hits, engine.features.misses, engine.features.size)
        return found

    def _load_ready(self, weights: str | Path) -> Predictor:
        from ihp_backend.inference.predictor import Predictor

        predictor = Predictor.load(weights, device=self.settings.device)
        # The first pass is much slower than the next ones: better now than at the first click.
        predictor.predict(np.zeros((512, 512, 3), np.uint8))
        return predictor


def _compute_threads(settings: Settings) -> ThreadPoolExecutor:
    cores = os.cpu_count() or 1
    count = settings.threads or max(1, cores // 4)
    each = settings.torch_threads or max(1, cores // count)

    def share_the_cores() -> None:
        import torch

        torch.set_num_threads(each)

    return ThreadPoolExecutor(count, "compute", share_the_cores)


def _gpu_memory() -> dict[str, int]:
    torch = sys.modules.get("torch")  # not imported for this
    if torch is None or not torch.cuda.is_initialized():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {"used": torch.cuda.memory_allocated(), "free": free, "total": total}


@cache
def shared_runtime() -> Runtime:
    """Returns this process' runtime, made from the environment at the first call."""
    return Runtime(Settings.from_environment())
