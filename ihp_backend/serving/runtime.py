"""What the threads of one process share: the models, the images, the known Label Studios, the counters."""

from __future__ import annotations

import logging
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

import numpy as np

from ihp_backend.annotation.recent_answers import RecentAnswers
from ihp_backend.cache import LoadingCache
from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.label_studio.connections import Connection, Connections, by_settings
from ihp_backend.label_studio.images import ImageError, ImageLoader
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.label_studio.mask_values import KNOWN
from ihp_backend.label_studio.schema_choice import Choice
from ihp_backend.learning.label_meanings import LabelMeanings
from ihp_backend.learning.preannotation_jobs import PreannotationJobs
from ihp_backend.learning.project_training import ProjectTraining
from ihp_backend.learning.queue import TrainingQueue
from ihp_backend.learning.records import TrainingCounts
from ihp_backend.learning.registry import Registry, RegistryError
from ihp_backend.learning.triggers import Triggers
from ihp_backend.logs import fields
from ihp_backend.memory import MemoryBudget
from ihp_backend.network.weights_folder import version_of
from ihp_backend.serving.base_models import BaseModels, ModelUnavailableError
from ihp_backend.serving.computing import Computing
from ihp_backend.serving.known_projects import KnownProjects
from ihp_backend.serving.meaning_reader import MeaningReader
from ihp_backend.serving.model_pool import ModelPool
from ihp_backend.serving.next_photo import NextPhoto
from ihp_backend.serving.turns import Turns
from ihp_backend.settings import Settings
from ihp_backend.telemetry import MemoryCounts, Metrics

if TYPE_CHECKING:
    from ihp_backend.inference.predictor import Predictor

__all__ = ["ModelUnavailableError", "Runtime", "shared_runtime"]

logger = logging.getLogger(__name__)

_MOST_PROJECTS = 1000
"""Of so many projects it is remembered which label set they asked for last."""


class Runtime:
    """The shared state of one process. Cheap to make: a model loads at its first use, or by ``preload``.

    Args:
        settings: The deployment's options.
        load_predictor: Makes the base model, whichever label set is asked for; by default, from its folder.
        read_version: Tells its version before it is loaded; by default, by its folder.
        load_version: Makes the model of a folder of weights; by default, on the settings' device.
    """

    def __init__(
        self,
        settings: Settings,
        load_predictor: Callable[[], Predictor] | None = None,
        read_version: Callable[[], str] | None = None,
        load_version: Callable[[Path], Predictor] | None = None,
    ) -> None:
        self.settings = settings
        self.memory = MemoryBudget(settings.request_memory_mb * 1_000_000)
        self.images = ImageLoader(settings)
        self.connections = Connections(settings.data_dir / "connections")
        self.recent_answers = RecentAnswers()
        self.turns = Turns()
        self.answers: LoadingCache[str, dict[str, Any]] = LoadingCache(0, lambda answer: 1)
        self.metrics = Metrics()
        self.computing = Computing(settings, self.metrics)
        self.next_photo = NextPhoto(self.computing.run_when_quiet)
        self.registry = Registry(settings.data_dir / "versions")
        load = load_version or self._load_ready
        self.projects = ModelPool(
            self.registry,
            lambda folder: self.computing.run(lambda: load(folder)),
            settings.models_in_memory,
            self.metrics,
        )
        self.base = BaseModels(
            settings.weights,
            lambda folder: self.computing.run(load_predictor or (lambda: load(folder))),
            settings.base_models_in_memory,
            self.metrics,
            (lambda folder: read_version()) if read_version else version_of,
        )
        self.trainings = TrainingQueue(settings)
        self.preannotations = PreannotationJobs(settings.data_dir / "preannotations", lambda: self.trainings.transport)
        self.metrics.add(TrainingCounts(self.trainings.records))
        self.metrics.add(MemoryCounts(self._caches, gpu_memory))
        self.known = KnownProjects(settings, self.connections, self.registry, self.images)
        self.triggers = Triggers(settings, self.trainings, self.known.knows, self.known.ask)
        self.meanings = LabelMeanings(settings.data_dir / "meanings")
        self._meaning_reader = MeaningReader(self)
        self._schemas: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    @property
    def is_ready(self) -> bool:
        """Whether a click would be answered without waiting for the first model to load."""
        return bool(self.base.loaded)

    @property
    def failure(self) -> str:
        """Why a base model could not be loaded, or an empty string."""
        return self.base.failure

    def choose(self, project: str | None, config: LabelConfig) -> Choice:
        """Chooses the label set whose weights answer a project, by its label config. Loads nothing.

        Raises:
            ModelUnavailableError: If there are no weights at all.
        """
        choice = self.base.choose(config)
        if project:
            self._note(project, choice)
        return choice

    def schema(self, project: str | None, config: LabelConfig | None = None) -> str:
        """Returns the name of the label set that answers a project.

        Args:
            project: Label Studio's id; ``None`` if there is none.
            config: Its label config. Without, it is the label set that the project asked for last, else that of all
                its versions, else that of the settings' weights.

        Raises:
            ModelUnavailableError: If there are no weights at all.
        """
        if config is not None:
            return self.choose(project, config).answering
        with self._lock:
            last = self._schemas.get(project or "", "").partition(" ")[0]
        if not last and project and len(learnt := self._learnt_schemas(project)) == 1:
            return learnt[0]
        return last or self.base.first

    def predictor(self, project: str | None = None, config: LabelConfig | None = None) -> Predictor:
        """Returns the model of a project, loaded by whichever thread asks first; the others wait for it.

        It is the project's own version of its label set, or the base model if there is none, or none that loads.

        Args:
            project: Label Studio's id, such as ``"1.1795392500"``; ``None`` for the base model.
            config: The project's label config, which decides on the label set; see ``schema``.

        Raises:
            ModelUnavailableError: If there is no version, and the base weights cannot be loaded.
        """
        schema = self.schema(project, config)
        own = self.projects.predictor(project, schema) if project else None
        return own or self.base.predictor(schema)

    def preload(self) -> Thread:
        """Starts to load the base model of the settings in the background, and returns the thread that does it."""
        return self.base.preload()

    def version(self, project: str | None = None, config: LabelConfig | None = None) -> str:
        """Returns the version that answers, or that will: no model is loaded, for the base weights info.json is read.

        Args:
            project: Label Studio's id; ``None`` for the base model.
            config: The project's label config, which decides on the label set; see ``schema``.

        Raises:
            ModelUnavailableError: If there are no such weights, or they could not be loaded when last tried.
        """
        schema = self.schema(project, config)
        own = self.projects.version(project, schema) if project else None
        return own or self.base.version(schema)

    def versions(self, project: str | None = None) -> dict[str, dict[str, str]]:
        """Returns the versions that can be served, and those that are, with their label sets. Loads nothing.

        Args:
            project: Label Studio's id; ``None`` for the base weights alone.

        Returns:
            ``schemas``: the schema of each version; ``serving``: the version that answers for each schema.

        Raises:
            RegistryError: If the project's name could not be a file's.
        """
        base = self.base.versions()
        own = [v for v in self.registry.versions(project) if v.has_weights] if project else []
        schemas = {**{version: schema for schema, version in base.items()}, **{v.name: v.schema for v in own}}
        serving = {schema: (project and self.projects.version(project, schema)) or base[schema] for schema in base}
        return {"schemas": schemas, "serving": serving}

    def training(self) -> ProjectTraining:
        """Returns what trains the projects of this runtime."""
        return ProjectTraining(
            self.settings,
            self.registry,
            self.images,
            connection_of=self.connection,
            trusts=self.trusted,
            is_thorough=lambda project: self.trainings.records.read(project).thorough,
            splits=self.trainings.records.splits,
            meanings=self.meanings,
        )

    def take_event(self, action: str, body: Mapping[str, Any]) -> str:
        """Takes an event of Label Studio in, and says at once what becomes of it, see ``Triggers.take``."""
        self._meaning_reader.take(action, body)
        return self.triggers.take(action, body)

    def connection(self, project: str | None) -> Connection | None:
        """Returns where a project's images and annotations come from: the settings, else its last /setup.

        The token of the settings goes to the address of the settings only, never to one that a request named.

        Raises:
            RequestError: If the project's name could not be a file's.
        """
        return by_settings(self.settings, self.connections.find(project) if project else None)

    def connection_of_number(self, number: int) -> Connection | None:
        """Returns where the project of a number comes from: the settings, else the last /setup of that number."""
        return by_settings(self.settings, self.connections.find_number(number))

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

    def remember(self, project: str, told: Connection) -> None:
        """Keeps what a /setup told, or refuses to, see ``KnownProjects.remember``, which says what is raised."""
        self.known.remember(project, told)
        if self.known.knows(project) is None:
            self.known.ask(project, partial(self.triggers.settle, project))

    def trusted(self, connection: Connection) -> bool:
        """Whether an address may be asked whatever it is: it is in the settings, or who told it can be believed."""
        return connection.hostname == self.settings.label_studio_url or self.settings.only_known_callers

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
        found = {
            "images": (images.hits, images.misses, images.size),
            "masks": (KNOWN.hits, KNOWN.misses, KNOWN.size),
        }
        engines = [model.engine for model in self.base.loaded if hasattr(model, "engine")]
        if engines:
            kept = [(e.features.hits, e.features.misses, e.features.size) for e in engines]
            hits, misses, sizes = zip(*kept, strict=True)
            found["features"] = (sum(hits), sum(misses), sum(sizes))
        return found

    def _note(self, project: str, choice: Choice) -> None:
        """Remembers a project's label set, and tells once if its weights are missing."""
        told = f"{choice.answering} {choice.note}"
        with self._lock:
            is_news = self._schemas.get(project) != told
            self._schemas[project] = told
            self._schemas.move_to_end(project)
            while len(self._schemas) > _MOST_PROJECTS:
                self._schemas.popitem(last=False)
        if is_news:
            level = logging.WARNING if choice.note else logging.INFO
            message = choice.note or f"the label set {choice.answering} answers"
            logger.log(level, "%s", message, extra=fields(project=project))

    def _learnt_schemas(self, project: str) -> list[str]:
        try:
            return self.registry.schemas(project)
        except RegistryError:
            return []

    def _load_ready(self, weights: str | Path) -> Predictor:
        from ihp_backend.inference.predictor import Predictor

        predictor = Predictor.load(weights, device=self.settings.device)
        # The first pass is much slower than the next ones: better now than at the first click.
        predictor.predict(np.zeros((512, 512, 3), np.uint8))
        return predictor


def gpu_memory() -> dict[str, int]:
    """Returns the bytes of GPU memory that we use, that are free, and that there are; empty without a GPU in use."""
    torch = sys.modules.get("torch")  # not imported for this
    if torch is None or not torch.cuda.is_initialized():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {"used": torch.cuda.memory_allocated(), "free": free, "total": total}


@cache
def shared_runtime() -> Runtime:
    """Returns this process' runtime, made from the environment at the first call."""
    return Runtime(Settings.from_environment())
