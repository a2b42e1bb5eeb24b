"""The model as Label Studio's ML SDK knows it: clicks in, brush regions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from ihp_backend.label_studio.connections import Connection
from ihp_backend.label_studio.label_config import LabelConfig, LabelConfigError
from ihp_backend.label_studio.predict_request import read_context, read_tasks
from ihp_backend.label_studio.regions import RequestError
from ihp_backend.serving.answering import Answering
from ihp_backend.serving.runtime import Runtime, shared_runtime

try:
    from label_studio_ml.model import LabelStudioMLBase
except ImportError as error:
    raise ImportError(
        f"cannot import Label Studio's ML SDK ({error}); install it with "
        "`pip install -r requirements.txt && pip install --no-deps -r requirements-sdk.txt`"
    ) from error


MOST_S = 300.0
"""So long the tasks of a request are answered; Label Studio waits 100 s, if it was not told otherwise."""


class InteractiveHumanParsing(LabelStudioMLBase):  # type: ignore[misc]  # the SDK is untyped
    """Translates the calls of the SDK, 1.0.9 and 2.x, under its servers and ours, for ``Answering`` and ``Triggers``.

    Args:
        project_id: Label Studio's id of the project, such as ``"1.1795392500"``, or its number.
        label_config: The project's label config, XML.
        runtime: The shared model and images; by default the process' own.
        kwargs: Whatever else a version of the SDK passes: 1.0.9 under its own server, ``hostname`` and
            ``access_token``.

    Raises:
        LabelConfigError: If the config has no keypoint and brush control on one image.
    """

    def __init__(
        self,
        project_id: str | None = None,
        label_config: str | None = None,
        *,
        runtime: Runtime | None = None,
        **kwargs: Any,
    ) -> None:
        self._config = LabelConfig.parse(label_config) if label_config else None
        hostname = kwargs.get("hostname")
        self._told = Connection(hostname, kwargs.get("access_token") or "") if hostname else None
        self._runtime = runtime or shared_runtime()
        self._project = self._runtime.project_of(project_id)
        try:
            super().__init__(project_id=project_id, label_config=label_config)
        except ValueError as error:
            raise LabelConfigError(f"the ML SDK cannot read the label config: {error}") from error

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Answers a click, or parses photos that nobody has clicked on yet; see ``Answering.answer``.

        Args:
            tasks: Label Studio's tasks, each with ``data``, and ``drafts`` or ``annotations`` if it has any.
            context: ``{"result": [...]}`` with the open keypoints of the clicked label; ``None``, or ``{}`` under
                the server of 2.x, when a task is opened or pre-annotated.
            kwargs: ``opened=False`` if nobody will click next; whatever else the request held.

        Raises:
            RequestError: If the request is malformed, or has more tasks than can be answered; the message says where.
            LabelConfigError: If no label config came with the project.
            ModelUnavailableError: If the model's weights cannot be loaded.
        """
        if self._config is None:
            raise LabelConfigError("no label config came with the project; expected its XML as `label_config`")
        clicked, read = read_context(context), read_tasks(tasks)
        if self._project is None and read:  # 1.0.9's own server does not tell it
            self._project = self._runtime.project_of(read[0].get("project"))
        answering = Answering(self._runtime, self._project, self._config.clicked_with(clicked or ()), self._told)
        is_opened = kwargs.get("opened", True) and len(read) == 1
        answers: list[dict[str, Any]] = []
        until = monotonic() + MOST_S
        for task in read:
            if monotonic() > until:
                raise RequestError(f"{len(answers)} of {len(read)} tasks took {MOST_S:.0f} s; send fewer at once")
            answers.append(answering.answer(task, clicked, prefetches=is_opened))
        return answers

    def get(self, key: str) -> Any:
        """Returns what the SDK 2.x keeps of a project; for ``model_version``, the version that answers."""
        return self._runtime.version(self._project, self._config) if key == "model_version" else super().get(key)

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Takes an event in, in the calling style of 1.0.9 or 2.x, and answers at once: a trainer does the work.

        Args:
            args: 2.x: the event's name and its body.
            kwargs: 1.0.9: ``event`` and ``data``.

        Returns:
            ``{"status": "queued", ...}``: what became of the event, see ``Triggers.take``.
        """
        event = kwargs.get("event") or next((value for value in args if isinstance(value, str)), "unknown")
        body = kwargs.get("data") or next((value for value in args if isinstance(value, Mapping)), {})
        return {"status": self._runtime.take_event(event, body), "action": event}
