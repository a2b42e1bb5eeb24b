"""The base weights of each label set: found on disk, loaded when they are first asked for, those used last kept."""

from __future__ import annotations

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from threading import Lock, Thread
from time import perf_counter
from typing import TYPE_CHECKING

from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.label_studio.schema_choice import Choice, choose_schema
from ihp_backend.logs import fields
from ihp_backend.network.weights_folder import WeightsError, read_info, schema_of, version_of, weights_by_schema
from ihp_backend.parts import Schema
from ihp_backend.telemetry import Metrics

if TYPE_CHECKING:
    from ihp_backend.inference.predictor import Predictor

logger = logging.getLogger(__name__)


class ModelUnavailableError(RuntimeError):
    """The model could not be loaded; the message says why."""


class BaseModels:
    """Keeps a bounded number of base models, one a schema. May be shared between threads.

    Args:
        weights: Weights that answer for their own schema; the others are found by ``weights_by_schema``.
        load: Makes the model of a folder of weights, ready to answer.
        most: How many models are kept; one that is asked for again later is loaded anew.
        metrics: Tells which are loaded.
        read_version: Tells the version of a folder of weights without loading them.
    """

    def __init__(
        self,
        weights: str,
        load: Callable[[Path], Predictor],
        most: int,
        metrics: Metrics,
        read_version: Callable[[Path], str] = version_of,
    ) -> None:
        self._weights = weights
        self._load = load
        self._most = most
        self._metrics = metrics
        self._read_version = read_version
        self._found: dict[str, tuple[Path, Schema]] = {}
        self._models: OrderedDict[str, Predictor] = OrderedDict()
        self._failures: dict[str, str] = {}
        self._preloaders: dict[str | None, Thread] = {}
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)
        self._lock = Lock()

    @property
    def loaded(self) -> list[Predictor]:
        """The models in memory, the one used last at the end."""
        with self._lock:
            return list(self._models.values())

    @property
    def failure(self) -> str:
        """Why a model could not be loaded when last tried, or an empty string."""
        with self._lock:
            return "; ".join(self._failures.values())

    @property
    def first(self) -> str:
        """The schema of the weights that were named, which answers where no label config is known.

        Raises:
            ModelUnavailableError: If there are no such weights.
        """
        return next(iter(self._there()))

    def choose(self, config: LabelConfig) -> Choice:
        """Chooses the schema that answers a label config. Loads nothing.

        Raises:
            ModelUnavailableError: If there are no weights at all.
        """
        there = self._there()
        choice = choose_schema(config, {name: schema for name, (_, schema) in there.items()})
        if choice.wanted not in there and choice.wanted in (now := self._look()):  # they have come meanwhile
            choice = choose_schema(config, {name: schema for name, (_, schema) in now.items()})
        return choice

    def predictor(self, schema: str) -> Predictor:
        """Returns the model of a schema, loaded by whichever thread asks first; the others wait for it.

        A failed load is tried again at the next call, so that weights put right are found without a restart.

        Raises:
            ModelUnavailableError: If its weights are missing or cannot be loaded.
        """
        if (known := self._known(schema)) is not None:
            return known
        with self._lock:
            mine = self._locks[schema]
        with mine:
            if (known := self._known(schema)) is not None:
                return known
            start = perf_counter()
            try:
                model = self._load(self._folder(schema))
            except Exception as error:
                with self._lock:
                    self._failures[schema] = str(error)
                raise _unavailable(error) from error
            self._keep(schema, model)
            line = fields(version=model.version, schema=schema, seconds=perf_counter() - start)
            logger.info("model loaded", extra=line)
            return model

    def preload(self, schema: str | None = None) -> Thread:
        """Starts to load a model in the background, the first by default, and returns the thread that does it."""

        def load() -> None:
            try:
                self.predictor(schema or self.first)
            except ModelUnavailableError as error:
                logger.error("%s; the next request tries again", error)

        with self._lock:
            running = self._preloaders.get(schema)
            is_there = schema in self._models if schema else bool(self._models)
            if running is None or not (running.is_alive() or is_there):
                running = self._preloaders[schema] = Thread(target=load, name=f"preload {schema}", daemon=True)
                running.start()
            return running

    def version(self, schema: str) -> str:
        """Returns the version that answers for a schema, or that will: it loads in the background.

        Raises:
            ModelUnavailableError: If there are no such weights, or they could not be loaded when last tried.
        """
        with self._lock:
            known, failure = self._models.get(schema), self._failures.get(schema)
        if known is not None:
            return known.version
        self.preload(schema)
        if failure:
            raise _unavailable(failure)
        try:
            return self._read_version(self._folder(schema))
        except Exception as error:
            raise _unavailable(error) from error

    def versions(self) -> dict[str, str]:
        """Returns the version of each schema that there are weights of. Loads nothing."""
        try:
            there = self._look()
        except ModelUnavailableError:
            return {}
        with self._lock:
            loaded = {name: model.version for name, model in self._models.items()}
        return {name: loaded.get(name) or self._read_version(folder) for name, (folder, _) in there.items()}

    def _known(self, schema: str) -> Predictor | None:
        with self._lock:
            if schema in self._models:
                self._models.move_to_end(schema)
            return self._models.get(schema)

    def _keep(self, schema: str, model: Predictor) -> None:
        with self._lock:
            self._failures.pop(schema, None)
            self._models[schema] = model
            self._metrics.model.labels(model.version).set(1)
            while len(self._models) > self._most:
                _, old = self._models.popitem(last=False)
                if old.version not in {kept.version for kept in self._models.values()}:
                    self._metrics.model.remove(old.version)

    def _folder(self, schema: str) -> Path:
        there = self._there()
        if schema not in there:
            there = self._look()
        if schema not in there:
            raise WeightsError(f"there are no weights of the label set {schema}; there are: {', '.join(there)}")
        return there[schema][0]

    def _there(self) -> dict[str, tuple[Path, Schema]]:
        return self._found or self._look()

    def _look(self) -> dict[str, tuple[Path, Schema]]:
        """Finds the weights there are, with the parts that they know, by schema."""
        try:
            folders = weights_by_schema(self._weights)
            self._found = {name: (folder, schema_of(read_info(folder))) for name, folder in folders.items()}
        except WeightsError as error:
            with self._lock:
                self._failures[""] = str(error)
            raise _unavailable(error) from error
        with self._lock:
            self._failures.pop("", None)
        return self._found


def _unavailable(why: object) -> ModelUnavailableError:
    return ModelUnavailableError(f"the model could not be loaded: {why}")
