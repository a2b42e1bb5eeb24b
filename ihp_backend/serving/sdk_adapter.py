"""The model as Label Studio's ML SDK knows it: clicks in, brush regions out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ihp_backend.annotation.masks import AcceptedMask, with_new
from ihp_backend.annotation.state import AnnotationState
from ihp_backend.clicks import Click
from ihp_backend.inference.prompts import Prompts
from ihp_backend.label_studio.client import LabelStudioError
from ihp_backend.label_studio.connections import Connection
from ihp_backend.label_studio.image_address import address_of
from ihp_backend.label_studio.images import ImageError
from ihp_backend.label_studio.label_config import LabelConfig, LabelConfigError
from ihp_backend.label_studio.regions import (
    RequestError,
    brush_region,
    has_short_id,
    read_clicks,
    read_masks,
    region_id,
    saved_state,
    short_name,
    working_results,
)
from ihp_backend.logs import fields
from ihp_backend.serving.runtime import Runtime, shared_runtime

if TYPE_CHECKING:
    from ihp_backend.inference.prediction import Prediction

try:
    from label_studio_ml.model import LabelStudioMLBase
except ImportError as error:
    raise ImportError(
        f"cannot import Label Studio's ML SDK ({error}); install it with "
        "`pip install -r requirements.txt && pip install --no-deps -r requirements-sdk.txt`"
    ) from error

logger = logging.getLogger(__name__)

_MOST_CLICKS = 200
"""More open keypoints than anybody makes; each takes time."""


class InteractiveHumanParsing(LabelStudioMLBase):  # type: ignore[misc]  # the SDK is untyped
    """Cuts out the body part that an annotator clicks on.

    Works on the SDK's 1.0.9 and 2.x, and under their servers as under ours. One object serves one label
    config; what is costly is in the runtime, which all objects of a process share.

    Args:
        project_id: Label Studio's id of the project, such as ``"1.1795392500"``, or its number; finds its versions,
            and the address and token that its /setup told.
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
        self._told = (
            Connection(kwargs["hostname"], kwargs.get("access_token") or "") if kwargs.get("hostname") else None
        )
        self._runtime = runtime or shared_runtime()
        self._project = self._runtime.project_of(project_id)
        try:
            super().__init__(project_id=project_id, label_config=label_config)
        except ValueError as error:
            raise LabelConfigError(f"the ML SDK cannot read the label config: {error}") from error

    def predict(
        self,
        tasks: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None = None,
        *,
        opened: bool = True,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Answers a click, or parses photos that nobody has clicked on yet.

        Args:
            tasks: Label Studio's tasks, each with ``data``, and ``drafts`` or ``annotations`` if it has any.
            context: ``{"result": [...]}`` with the open keypoints of the clicked label; ``None``, or ``{}`` under
                the server of 2.x, when a task is opened or pre-annotated.
            opened: Whether somebody may click next: then a task that comes alone is made ready for it, after the
                answer.
            kwargs: Whatever else the request held.

        Returns:
            For each task ``{"result": [...], "score": 0..1, "model_version": "..."}``: after a click the
            brush region of the clicked label, else one region for each part that was found. The result is
            empty if the task's image cannot be had; the log says why.

        Raises:
            RequestError: If the request is malformed; the message says where.
            LabelConfigError: If no label config came with the project.
            ModelUnavailableError: If the model's weights cannot be loaded.
        """
        clicked = None if context is None or context == {} else _results_of(context)
        config = self._require_config().clicked_with(clicked or ())
        if self._project is None and tasks and isinstance(tasks[0], Mapping):  # 1.0.9's own server does not tell it
            self._project = self._runtime.project_of(tasks[0].get("project"))
        warms = opened and len(tasks) == 1
        return [self._predict_once(_checked(task), config, clicked, warms=warms) for task in tasks]

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
        return {"status": self._runtime.triggers.take(event, body), "action": event}

    def _require_config(self) -> LabelConfig:
        if self._config is None:
            raise LabelConfigError("no label config came with the project; expected its XML as `label_config`")
        return self._config

    def _predict_once(
        self,
        task: Mapping[str, Any],
        config: LabelConfig,
        clicked: Sequence[dict[str, Any]] | None,
        *,
        warms: bool,
    ) -> dict[str, Any]:
        """Answers a request and its double, which Label Studio sends at the same time, with one computation."""
        if task.get("id") is None:
            return self._predict_one(task, config, clicked, warms=warms)
        asked = None if clicked is None else [(r.get("id"), r.get("is_positive"), r.get("value")) for r in clicked]
        key = repr((self._project, task["id"], task["data"], config, asked, saved_state(task)))
        return self._runtime.answers.get(key, lambda: self._predict_one(task, config, clicked, warms=warms))

    def _predict_one(
        self,
        task: Mapping[str, Any],
        config: LabelConfig,
        clicked: Sequence[dict[str, Any]] | None,
        *,
        warms: bool,
    ) -> dict[str, Any]:
        metrics = self._runtime.metrics
        predictor = self._runtime.predictor(self._project, config)
        empty = {"result": [], "score": 0.0, "model_version": predictor.version}
        try:
            with metrics.stage("fetch"):
                image, key = self._image(task, config)
        except (ImageError, LabelStudioError) as error:
            # An error here would break the annotator's page, and one bad photo a whole batch.
            metrics.failures.labels(type(error).__name__).inc()
            logger.warning("task skipped: %s", error, extra=fields(task=task.get("id"), project=self._project))
            return empty
        if clicked is None:
            parts = config.parts(predictor.schema)
            session = predictor.open(image, key)
            prediction = self._computed(lambda: session.predict(Prompts(labels=parts)))
            with metrics.stage("encode"):
                regions = [
                    brush_region(mask, label, prediction.scores[label], config)
                    for label, mask in prediction.masks.items()
                    if mask.any()
                ]
            if warms:
                self._runtime.recent_answers.forget(self._task_key(task))  # a page that is opened shows what is saved
                self._runtime.prefetch(session.prefetch)
            return {"result": regions, "score": float(prediction.score), "model_version": predictor.version}
        with metrics.stage("read"):
            state = self._state(task, config, clicked, (image.shape[0], image.shape[1]))
        if not state.clicks:
            logger.info("no keypoint of %s in the context", config.keypoint, extra=fields(task=task.get("id")))
            return empty
        key_of_task, saved = self._task_key(task), saved_state(task)
        keypoints = {region_id(result) for result in clicked}
        parts = config.parts(predictor.schema)
        session = predictor.open(image, key)
        regions, scores = [], []
        answered: list[AcceptedMask] = []
        for label in dict.fromkeys(click.part for click in state.clicks):
            corrected = state.corrected(label)
            refined = state.refinable(label) if config.refine == "all" else []
            prompts = Prompts(
                [*state.other_clicks, *state.clicks],  # the newest last
                labels=parts,
                wanted=[label, *refined],
                earlier_clicks=state.earlier_clicks(label, corrected),
                masks=state.mask_prompts(label, corrected),
                suggest=config.suggest == "all",
                everyone=config.people == "everyone",
            )
            prediction = self._computed(partial(session.predict, prompts))
            on_others = None
            if corrected is not None and corrected.is_guess and config.people == "one":
                on_others = self._runtime.compute(partial(session.on_other_people, corrected.mask, state.clicks))
            with metrics.stage("encode"):
                scores.append(prediction.scores[label])
                answers = state.answers(
                    label,
                    prediction.masks,
                    corrected,
                    may_overlap=config.overlap == "yes",
                    refined=refined,
                    on_others=on_others,
                )
                for n, answer in enumerate(answers):
                    score = prediction.scores.get(answer.label, scores[-1])
                    own = [c for c in (*state.other_clicks, *state.clicks) if c.part == answer.label]
                    if n and answer.label == label:
                        own = []  # on somebody else
                    answers[n] = kept = replace(answer, clicks=with_new(answer.clicks, own, round(1000 * time())))
                    regions.append(brush_region(kept.mask, kept.label, score, config, kept.id, kept.clicks))
                answered += answers
        self._runtime.recent_answers.remember(key_of_task, saved, answered, keypoints)
        return {"result": regions, "score": float(np.mean(scores)), "model_version": predictor.version}

    def _computed(self, predict: Callable[[], Prediction]) -> Prediction:
        """Predicts in its turn; the time is that of the prediction, without the waiting."""

        def timed() -> Prediction:
            with self._runtime.metrics.stage("predict"):
                return predict()

        return self._runtime.compute(timed)

    def _state(
        self,
        task: Mapping[str, Any],
        config: LabelConfig,
        clicked: Sequence[dict[str, Any]],
        shape: tuple[int, int],
    ) -> AnnotationState:
        """Reads what lies before the annotator who has just clicked."""
        clicks = read_clicks(list(clicked), config, *shape)
        drawn = working_results(task, {region_id(result) for result in clicked})
        others = _other_clicks(drawn, config, *shape, {click.part for click in clicks})
        if len(clicks) + len(others) > _MOST_CLICKS:
            raise RequestError(
                f"{len(clicks) + len(others)} keypoints are open; expected at most {_MOST_CLICKS}: accept their masks, "
                "or delete them"
            )
        opened, drafted = (
            {region_id(result) for result in results if result.get("type") == "keypointlabels"}
            for results in (clicked, drawn)
        )
        masks = read_masks(drawn, config, *shape)
        if not task.get("drafts") and any(c.is_positive and m.mask[c.pixel(*shape)] for c in clicks for m in masks):
            # Label Studio takes no plain click inside a mask: this annotation is another one, not the open one.
            masks = []
        recent = self._runtime.recent_answers.recent(self._task_key(task), saved_state(task), opened, drafted, shape)
        return AnnotationState.of(clicks, others, masks, recent)

    def _task_key(self, task: Mapping[str, Any]) -> str:
        return short_name((self._project, task["data"] if task.get("id") is None else task["id"]))

    def _image(self, task: Mapping[str, Any], config: LabelConfig) -> tuple[NDArray[np.uint8], str]:
        url = address_of(task, config.value, self._project)
        connection = self._runtime.connection(self._project) or self._told
        hostname = connection.hostname if connection else None
        token = connection.token if connection else None
        told = (connection.told if connection else "") or (self._told.hostname if self._told else "")
        image = self._runtime.images.load(url, hostname=hostname, token=token, told=told)
        return image, short_name((hostname, url))


def _checked(task: object) -> Mapping[str, Any]:
    if not isinstance(task, Mapping) or not isinstance(task.get("data"), Mapping):
        raise RequestError("a task is not an object with `data`; expected {'id': 1, 'data': {'image': '...'}, ...}")
    return task


def _results_of(context: object) -> list[dict[str, Any]]:
    results = context.get("result") if isinstance(context, Mapping) else None
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise RequestError("the context has no list `result` of objects; expected {'result': [a keypoint, ...]}")
    if not all(has_short_id(result) for result in results):
        raise RequestError("a keypoint of the context has a very long id; expected that of Label Studio, ten letters")
    return results


def _other_clicks(
    drawn: Sequence[dict[str, Any]], config: LabelConfig, height: int, width: int, clicked: set[str]
) -> list[Click]:
    """Reads the open keypoints of the labels that were not clicked; the context has all of the clicked ones.

    What cannot be read is left out: a draft may be older than the label config.
    """
    clicks: list[Click] = []
    for result in drawn:
        try:
            clicks += read_clicks([result], config, height, width)
        except RequestError as error:
            logger.warning("a keypoint of the draft was left out: %s", error)
    return [click for click in clicks if click.part not in clicked]
