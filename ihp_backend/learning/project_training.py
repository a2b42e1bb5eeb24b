"""One training of one project, from its annotations in Label Studio to a version that is promoted or rejected.

Nothing is written to Label Studio, and nothing is served that is not whole: what fails in between leaves no trace but
its reason.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ihp_backend.data.sample import DataError
from ihp_backend.data.split import Split
from ihp_backend.label_studio.annotated_tasks import Fetch, Photos, Reading, read_tasks
from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.label_studio.client import Client
from ihp_backend.label_studio.image_store import ImageStore
from ihp_backend.label_studio.images import ImageError, ImageLoader, fetch_or_ask
from ihp_backend.label_studio.label_config import LabelConfig, LabelConfigError
from ihp_backend.label_studio.schema_choice import choose_schema
from ihp_backend.learning.label_meanings import LabelMeanings
from ihp_backend.learning.queue import Report, Result, TemporaryError, TrainingError
from ihp_backend.learning.registry import BASE, MODEL, Registry, RegistryError, Status
from ihp_backend.learning.triggers import project_key
from ihp_backend.logs import fields
from ihp_backend.network.weights_folder import WeightsError, read_info, schema_of, weights_by_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from ihp_backend.label_studio.connections import Connection
    from ihp_backend.settings import Settings

logger = logging.getLogger(__name__)

_TASKS_A_PAGE = 50
_REASONS_KEPT = 50


class ProjectTraining:
    """Trains projects for a ``TrainingQueue``. No model that serves is touched, or loaded.

    Args:
        settings: The deployment's options.
        registry: Takes the versions in.
        images: Fetches photos by the rules of the settings.
        connection_of: Tells the Label Studio of a project, or ``None`` if it is not known.
        trusts: Whether a Label Studio may be asked whatever its address is.
        is_thorough: Whether a project's training may take minutes: somebody asked for it.
        splits: Folder in which it is kept which tasks of a project are held back.
        meanings: What the labels mean that the label set does not know. Those that are parts of it, or several, are
            trained as such, and get no class of their own.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        images: ImageLoader,
        *,
        connection_of: Callable[[str], Connection | None],
        trusts: Callable[[Connection], bool],
        is_thorough: Callable[[str], bool],
        splits: Path,
        meanings: LabelMeanings,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._images = images
        self._connection_of = connection_of
        self._trusts = trusts
        self._is_thorough = is_thorough
        self._splits = splits
        self._meanings = meanings
        self._store = ImageStore(settings.data_dir / "photos", settings.training_cache_mb * 1_000_000)

    def __call__(self, project: str, report: Report) -> Result:
        """Trains a project on what its annotators have submitted.

        Args:
            project: Label Studio's id, such as ``"1.1795392500"``.
            report: Is told the stage and the share of it that is done.

        Raises:
            TemporaryError: If Label Studio is down or slow: another try may go well.
            TrainingError: If it cannot go well.
            OSError: If files cannot be written.
        """
        try:
            return self._train(project, report)
        except LabelStudioError as error:
            if error.status is None or error.status >= 500 or error.status == 429:
                raise TemporaryError(str(error)) from error
            raise TrainingError(str(error)) from error
        except ImageError as error:
            raise (TemporaryError if error.is_temporary else TrainingError)(str(error)) from error
        except LabelConfigError as error:
            raise TrainingError(str(error).partition("\n")[0]) from error
        except (WeightsError, RegistryError) as error:
            raise TrainingError(str(error)) from error

    def _train(self, project: str, report: Report) -> Result:
        settings, registry = self._settings, self._registry
        report("asks Label Studio", 0.0)
        weights = weights_by_schema(settings.weights)
        config, reading, fetch = self._read(project, report)
        choice = choose_schema(config, {name: schema_of(read_info(folder)) for name, folder in weights.items()})
        if choice.note:
            logger.warning("%s", choice.note, extra=fields(project=project))
        schema, base = choice.answering, weights[choice.answering]
        info = read_info(base)
        train, held_back = self._sides(project, reading)
        labels = self._meanings.parts(project, config.with_all_labels(), schema_of(info))

        def photos(numbers: list[int]) -> Photos:
            chosen = [photo for photo in reading.photos if photo.task in set(numbers)]
            return Photos(chosen, labels, fetch, settings.max_image_pixels)

        current = registry.current(project, schema)
        parent, start = self._start(project, schema, base)
        version = registry.next_name(project, str(info.get("version") or base.name))
        counts = {"train": len(train), "held back": len(held_back), "left out": len(reading.left_out)}
        logger.info("training starts from %s", parent, extra=fields(project=project, version=version, **_keys(counts)))
        report("learns", 0.0)
        with registry.draft(project) as draft:
            outcome = self._learn(
                self._is_thorough(project),
                start,
                photos(train),
                photos(held_back),
                draft,
                version=version,
                base=base,
                device=settings.device,
                base_data=settings.base_data,
                report=report,
            )
            if not (draft / MODEL).is_file():
                raise TrainingError(outcome.reason)
            report("keeps the version", 1.0)
            status = Status(
                "promoted" if outcome.is_better else "rejected",
                outcome.reason,
                parent,
                before=dict(outcome.before),
                after=dict(outcome.after),
                seconds=round(float(outcome.seconds), 1),
                photos=counts,
                schema=schema,
            )
            status = registry.add(project, version, draft, status, instead_of=current).status
        if pruned := registry.prune(project, settings.kept_versions):
            logger.info("weights of old versions deleted", extra=fields(project=project, versions=",".join(pruned)))
        return Result(status.state, status.reason, version, tuple(reading.left_out[:_REASONS_KEPT]))

    def _read(self, project: str, report: Report) -> tuple[LabelConfig, Reading, Fetch]:
        """Fetches the project's label config and what was annotated."""
        connection = self._connection(project)
        client = Client(connection.hostname, connection.token)
        number = int(project.partition(".")[0])
        found = client.get_project(number)
        if (key := project_key(found)) != project:
            raise TrainingError(
                f"project {number} of {connection.hostname} is {key}, not {project}: this is another Label Studio, or "
                "another project; connect the right one again"
            )
        config = LabelConfig.parse(found.get("label_config", ""))

        def fetch(url: str) -> bytes:
            def load() -> bytes:
                return fetch_or_ask(self._images, url, connection, client)

            return load() if url[:5].lower() == "data:" else self._store.get(f"{project} {connection} {url}", load)

        expected = found.get("num_tasks_with_annotations")
        expected = max(1, expected) if isinstance(expected, int) else 1

        def tasks() -> Any:
            for place, task in enumerate(client.select_tasks(number, annotated=True, page_size=_TASKS_A_PAGE)):
                report("reads annotations", min(1.0, place / expected))
                yield task

        return config, read_tasks(tasks(), config, fetch, self._settings.max_image_pixels), fetch

    def _connection(self, project: str) -> Connection:
        connection = self._connection_of(project)
        if connection is None or not connection.hostname:
            raise TrainingError(
                "Label Studio's address is not known; set IHP_LABEL_STUDIO_URL and IHP_LABEL_STUDIO_TOKEN, or open the "
                "model's settings in Label Studio, which then tells it"
            )
        if not self._trusts(connection):
            # By the rules of its images: an address that a stranger told must not be a private one.
            self._images.check(connection.hostname, connection.token)
        return connection

    def _sides(self, project: str, reading: Reading) -> tuple[list[int], list[int]]:
        train, held_back = Split(project, self._splits / f"{project}.json").divide(
            [*dict.fromkeys(photo.task for photo in reading.photos)]
        )
        why = f" ({len(reading.left_out)} were left out: {reading.left_out[0]})" if reading.left_out else ""
        if len(train) + len(held_back) < 2:
            raise TrainingError(f"two annotated photos are needed at least; there are {len(train)}{why}")
        if not (train and held_back):
            gone = "held-back" if train else "trained"
            raise TrainingError(f"all {gone} photos are gone, and none may change side; annotate another{why}")
        return train, held_back

    def _start(self, project: str, schema: str, base: Path) -> tuple[str, Path]:
        """Returns the version to start from, and its folder: what is served for the schema now, if it is whole."""
        for version in self._registry.candidates(project, schema):
            try:
                self._registry.check(version)
            except RegistryError as error:
                logger.error("training does not start from it: %s", error)
                continue
            return version.name, version.folder
        return BASE, base

    def _learn(self, thorough: bool, *args: Any, **options: Any) -> Any:
        from ihp_backend.training.finetune import (  # with torch, which waiting does not need
            THOROUGH,
            FinetuneConfig,
            finetune,
        )
        from ihp_backend.training.run_folder import TrainerError, WriteError

        config = THOROUGH if thorough else FinetuneConfig()
        config = replace(config, steps=self._settings.train_steps or config.steps)
        try:
            return finetune(*args, config=config, **options)
        except WriteError as error:
            raise TemporaryError(str(error)) from error
        except (TrainerError, DataError) as error:
            raise TrainingError(str(error)) from error


def _keys(counts: dict[str, int]) -> dict[str, int]:
    return {name.replace(" ", "_"): count for name, count in counts.items()}
