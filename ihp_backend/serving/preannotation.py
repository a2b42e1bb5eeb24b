"""Predictions for tasks that nobody has annotated: made, sent to Label Studio, and those of older versions deleted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ihp_backend.label_studio.client import Client
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.learning.preannotation_jobs import Counts, Job, Run
from ihp_backend.learning.triggers import project_key
from ihp_backend.network.weights_folder import SHIPPED
from ihp_backend.serving.runtime import Runtime
from ihp_backend.serving.sdk_adapter import InteractiveHumanParsing

_TOGETHER = 8
"""Tasks that are worked on at once, at most."""
_LEARNT = re.compile(r".+\+p\d+\.\d{3,}")


class Preannotation:
    """The pre-annotation of one project, with the version that it is served.

    Attributes:
        key: Label Studio's id of the project, such as ``"1.1795392500"``.
        number: Its number.
        project: The project as Label Studio tells it.
        client: Its Label Studio.
        version: The version that predicts.
        schema: The label set.
        note: What to tell of the choice of the label set, or an empty string.
    """

    def __init__(self, runtime: Runtime, client: Client, number: int) -> None:
        """Asks for the project and loads its model.

        Raises:
            LabelStudioError: If Label Studio does not give the project.
            ValueError: If its label config cannot be read.
            RuntimeError: If the weights cannot be loaded.
        """
        self.client, self.number = client, number
        self.project = client.get_project(number)
        self.key = project_key(self.project)
        label_config = self.project["label_config"]
        self._model = InteractiveHumanParsing(project_id=self.key, label_config=label_config, runtime=runtime)
        config = LabelConfig.parse(label_config)
        self.note = runtime.choose(self.key, config).note
        self.version = runtime.predictor(self.key, config).version
        self.schema = runtime.schema(self.key)
        self._ours = {self.version, *runtime.base.versions().values()}
        self._ours |= {version.name for version in runtime.registry.versions(self.key or "")}
        self._ours |= {path.parent.name for path in SHIPPED.glob("*/info.json")}

    def predict(self, tasks: Sequence[Mapping[str, Any]]) -> Counts:
        """Predicts tasks beside each other and sends the predictions; those that have one of this version stay.

        Args:
            tasks: With their predictions, as Label Studio lists them.

        Raises:
            LabelStudioError: If Label Studio does not take a prediction, or does not delete an old one.
        """
        left = [task for task in tasks if not self._of_this_version(task)]
        for task in tasks:
            if self._of_this_version(task):
                self._delete_old(task)  # a stop between the two leaves both
        if not left:
            return Counts(passed=len(tasks))
        # Beside each other: photos are fetched and decoded while the network computes.
        with ThreadPoolExecutor(min(len(left), _TOGETHER)) as pool:
            found = list(pool.map(lambda task: self._model.predict([task], opened=False)[0], left))
        made = [(task, answer) for task, answer in zip(left, found, strict=True) if answer["result"]]
        if made:
            self.client.import_predictions(self.number, [{"task": task["id"], **answer} for task, answer in made])
        for task, _ in made:
            self._delete_old(task)
        return Counts(len(made), len(tasks) - len(left), len(left) - len(made))

    def delete_twice_made(self, job: Job) -> None:
        """Leaves each task of a job its first prediction of this version.

        Who is killed in the middle of sending may have sent: Label Studio adds the predictions after whoever takes the
        job next has looked.
        """
        for task in self._tasks(job, annotated=None):
            for prediction in self._of_this_version(task)[1:]:
                self.client.delete_prediction(int(prediction["id"]))

    def do(self, job: Job, batch: int, sent: Callable[[int], None]) -> Counts:
        """Does a job; see ``Work``, and ``predict`` for what is raised."""
        counts, tasks = Counts(), list(self._tasks(job, annotated=False))
        for start in range(0, len(tasks), batch):
            more = self.predict(tasks[start : start + batch])
            counts += more
            sent(more.made)
        if job.begun > 1:
            self.delete_twice_made(job)
        return counts + Counts(passed=len(job.tasks) - len(tasks))

    def _tasks(self, job: Job, *, annotated: bool | None) -> Iterator[dict[str, Any]]:
        ids = set(job.tasks)
        listed = self.client.select_tasks(self.number, annotated=annotated, page_size=len(ids), after=job.tasks[0] - 1)
        for task in listed:
            if task["id"] in ids:
                yield task
            if task["id"] >= job.tasks[-1]:
                return

    def _of_this_version(self, task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """A task's predictions of the version, the first one first."""
        found = [p for p in task.get("predictions") or [] if p.get("model_version") == self.version]
        return sorted(found, key=lambda prediction: int(prediction["id"]))

    def _delete_old(self, task: Mapping[str, Any]) -> None:
        for prediction in task.get("predictions") or []:
            old = str(prediction.get("model_version"))
            if old != self.version and (old in self._ours or _LEARNT.fullmatch(old)):
                self.client.delete_prediction(int(prediction["id"]))


def do_job(runtime: Runtime, run: Run, job: Job, sent: Callable[[int], None]) -> Counts:
    """Does a job of pre-annotation in a trainer, see ``Work``.

    Raises:
        RuntimeError: If the address of Label Studio is not known, or the weights cannot be loaded.
        LabelStudioError: If it does not give the tasks, or does not take the predictions.
    """
    connection = runtime.connection_of_number(run.number)
    if connection is None or not connection.hostname:
        raise RuntimeError("Label Studio's address is not known to this trainer: IHP_LABEL_STUDIO_URL")
    client = Client(connection.hostname, connection.token)
    return Preannotation(runtime, client, run.number).do(job, run.batch, sent)
