"""Answers one task: a click with the mask of its label, a task without a click with a mask for each part."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ihp_backend.annotation.answer import answer_masks
from ihp_backend.annotation.clicked_person import clicked_person
from ihp_backend.annotation.masks import AcceptedMask, with_new
from ihp_backend.annotation.state import AnnotationState
from ihp_backend.geometry import Box
from ihp_backend.inference.prompts import Prompts
from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.label_studio.connections import Connection
from ihp_backend.label_studio.image_address import address_of
from ihp_backend.label_studio.images import ImageError
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.label_studio.predict_request import read_annotation
from ihp_backend.label_studio.regions import longest_stream, mask_regions, most_drawn, saved_state, short_name
from ihp_backend.label_studio.rle import MEMORY, longest_of
from ihp_backend.logs import fields
from ihp_backend.memory import reserved

if TYPE_CHECKING:
    from ihp_backend.inference.photo_session import PhotoSession
    from ihp_backend.inference.predictor import Predictor
    from ihp_backend.serving.runtime import Runtime

logger = logging.getLogger(__name__)

_MOST_PHOTOS = 20
"""So many photos of a task are parsed before anybody has clicked; Label Studio waits for all of them together."""
_CLICKED_MASKS, _SUGGESTED_MASKS = 6, 16
"""So many masks of the photo's size are in memory at the same time, about: for one label, and for all that are seen."""

Answer = dict[str, Any]
"""``{"result": [a region, ...], "score": 0..1, "model_version": "..."}``, as Label Studio wants it, and ``error``."""


class Answering:
    """Answers the tasks of one request.

    Args:
        runtime: The models, the photos and the recent answers.
        project: Label Studio's id of the project; ``None`` if it is not known.
        config: The project's label config.
        told: The Label Studio that the SDK's own server named, if it did.
    """

    def __init__(self, runtime: Runtime, project: str | None, config: LabelConfig, told: Connection | None) -> None:
        self._runtime, self._project, self._config, self._told = runtime, project, config, told
        self._predictor: Predictor = runtime.predictor(project, config)
        self._tells_people_apart = self._predictor.schema.tells_people_apart and config.people == "one"
        self._labels = runtime.meanings.parts(project, config, self._predictor.schema)

    def answer(
        self, task: Mapping[str, Any], clicked: Sequence[dict[str, Any]] | None, *, prefetches: bool = False
    ) -> Answer:
        """Answers a task. The same request twice, as Label Studio sends it at the same time, is computed once.

        Args:
            task: Label Studio's task.
            clicked: The open keypoints of the clicked label; ``None`` if nobody has clicked.
            prefetches: Whether somebody has the task open: after the answer its photo is made ready for a first click,
                and so is that of the next task.

        Returns:
            The answer. If the photo cannot be had, it has no regions, and ``error`` says why, as the log does.

        Raises:
            RequestError: If a keypoint cannot be read, or there are too many.
        """
        try:
            config = self._config.of_task(task)
        except ImageError as error:
            return self._without_photo(task, error)
        if config is not self._config:
            config = config.clicked_with(clicked or ())
        found = self._of(config)._once(task, clicked, prefetches)
        if prefetches:
            self._prefetch_next(task)
        return found

    def _prefetch_next(self, task: Mapping[str, Any]) -> None:
        """Makes the photo ready that is likely opened after this task's."""
        runtime, number = self._runtime, task.get("id")
        connection = runtime.connection(self._project)
        if not (runtime.settings.prefetch_next and connection and connection.hostname and runtime.trusted(connection)):
            return
        if self._project is None or type(number) is not int:
            return

        def open_photo(following: Mapping[str, Any]) -> Callable[[], list[Callable[[], None]]]:
            view = self._config.of_task(following).photos()[0]
            return self._predictor.open(*load_photo(runtime, self._project, view, following, self._told)).prefetch

        runtime.next_photo.after(self._project, number, connection, open_photo)

    def _of(self, config: LabelConfig) -> Answering:
        """The same for a config that a task has filled in, or for another one of its photos."""
        return self if config is self._config else Answering(self._runtime, self._project, config, self._told)

    def _once(self, task: Mapping[str, Any], clicked: Sequence[dict[str, Any]] | None, prefetches: bool) -> Answer:
        if task.get("id") is None:
            return self._all_photos(task, prefetches) if clicked is None else self._answer(task, clicked, prefetches)
        asked = None if clicked is None else [(r.get("id"), r.get("is_positive"), r.get("value")) for r in clicked]
        key = repr((self._project, task["id"], task["data"], self._config, asked, saved_state(task)))
        if clicked is None:
            return self._runtime.answers.get(key, partial(self._all_photos, task, prefetches))
        return self._runtime.answers.get(key, partial(self._in_turn, task, clicked))

    def _all_photos(self, task: Mapping[str, Any], prefetches: bool) -> Answer:
        """Answers without a click, with the masks of all photos of a task, of its first ones if there are very many."""
        views = self._config.photos()
        if len(views) == 1:
            return self._answer(task, None, prefetches)
        answers = [self._of(v)._answer(task, None, prefetches and v is views[0]) for v in views[:_MOST_PHOTOS]]
        errors = [answer["error"] for answer in answers if "error" in answer]
        regions = [region for answer in answers for region in answer["result"]]
        scores = [answer["score"] for answer in answers if answer["result"]]
        found = self._written(regions, float(np.mean(scores)) if scores else 0.0)
        return found | ({"error": "; ".join(errors)} if errors else {})

    def _in_turn(self, task: Mapping[str, Any], clicked: Sequence[dict[str, Any]]) -> Answer:
        with self._runtime.turns.turn(self._name(task)):
            return self._answer(task, clicked, False)

    def _answer(self, task: Mapping[str, Any], clicked: Sequence[dict[str, Any]] | None, prefetches: bool) -> Answer:
        try:
            with self._runtime.metrics.stage("fetch"):
                image, key = load_photo(self._runtime, self._project, self._config, task, self._told)
        except (ImageError, LabelStudioError) as error:
            return self._without_photo(task, error)
        # What would not fit if it were alone has the place of all large ones to itself.
        with reserved(self._memory_of(image, task, clicked), "the answer", or_most=True):
            session = self._predictor.open(image, key)
            if clicked is not None:
                return self._after_a_click(task, clicked, session)
            answer = self._without_clicks(session)
            if prefetches:
                for name in self._names(task):
                    self._runtime.recent_answers.forget(name)  # a page that is opened shows what is saved
                self._runtime.computing.prefetch(session.prefetch)
            return answer

    def _without_photo(self, task: Mapping[str, Any], error: Exception) -> Answer:
        """An error would take a whole batch with it, and Label Studio shows an annotator neither.

        But its test request shows what is in an answer.
        """
        self._runtime.metrics.failures.labels(type(error).__name__).inc()
        logger.warning("task skipped: %s", error, extra=fields(task=task.get("id"), project=self._project))
        return self._written([], 0.0) | {"error": str(error)}

    def _memory_of(
        self, image: NDArray[np.uint8], task: Mapping[str, Any], clicked: Sequence[dict[str, Any]] | None
    ) -> int:
        """What an answer takes, about: the photo, masks of its size, the draft's, and to read the longest of them."""
        pixels = image.shape[0] * image.shape[1]
        masks = _CLICKED_MASKS if clicked is not None and self._config.suggest != "all" else _SUGGESTED_MASKS
        if clicked is None:
            return pixels * (3 + masks)
        stream = min(longest_stream(task), longest_of(pixels))
        return pixels * (3 + masks) + most_drawn(task) * (pixels // 8) + MEMORY * stream

    def _without_clicks(self, session: PhotoSession) -> Answer:
        """Answers a photo with a region for each part that was found; of each person, where people are told apart."""
        prompts = Prompts(labels=self._labels)
        prediction = self._runtime.computing.run(partial(session.predict, prompts), stage="predict")
        parts: Iterable[tuple[str, NDArray[np.bool_], float, int | None]]
        parts = ((label, mask, prediction.scores[label], None) for label, mask in prediction.masks.items())
        if self._tells_people_apart:
            from ihp_backend.inference.person_parts import person_parts

            parts = ((p.label, p.mask, p.score, p.person) for p in person_parts(session, prediction, self._labels))
        with self._runtime.metrics.stage("encode"):
            regions = [
                region
                for label, mask, score, person in parts
                if mask.any()
                for region in mask_regions(mask, label, score, self._config, person=person)
            ]
        return self._written(regions, prediction.score)

    def _after_a_click(
        self, task: Mapping[str, Any], clicked: Sequence[dict[str, Any]], session: PhotoSession
    ) -> Answer:
        """Answers a click with the regions that it makes and changes."""
        shape = (session.image.shape[0], session.image.shape[1])
        name, saved = self._name(task), saved_state(task)
        with self._runtime.metrics.stage("read"):
            found = read_annotation(task, clicked, self._config, *shape)
        if found.boxes:
            prompts = Prompts(
                found.clicks, labels=self._labels, boxes=found.boxes, everyone=self._config.people == "everyone"
            )
            asked = self._runtime.computing.run(partial(session.with_clicks_in_boxes, prompts), stage="predict")
            found = replace(found, clicks=asked.clicks)
        labels = list(dict.fromkeys(click.part for click in found.clicks))
        recent = self._runtime.recent_answers.recent(
            name, saved, found.open_keypoints, found.drafted_keypoints, labels, shape
        )
        state = AnnotationState.of(found.clicks, found.other_clicks, found.masks, recent)
        if not state.clicks:
            logger.info("no keypoint of %s in the context", self._config.keypoint, extra=fields(task=task.get("id")))
            return self._written([], 0.0)
        regions: list[dict[str, Any]] = []
        scores: list[float] = []
        answered: list[AcceptedMask] = []
        for label in labels:
            masks, written, score = self._label(label, state, session, found.boxes)
            regions, answered = [*regions, *written], [*answered, *masks]
            scores.append(score)
        regions += [region for mask in state.still_suggested(answered) for region in self._regions(mask)]
        nothing = np.zeros(shape, bool)  # in the place of a point it takes it away
        for point, label in found.left_behind.items():
            regions += mask_regions(nothing, label, 0.0, self._config, point)
        self._runtime.recent_answers.remember(name, saved, answered, found.open_keypoints, labels)
        return self._written(regions, float(np.mean(scores)))

    def _label(
        self, label: str, state: AnnotationState, session: PhotoSession, boxes: Mapping[str, Box]
    ) -> tuple[list[AcceptedMask], list[dict[str, Any]], float]:
        """Answers the clicks of one label: the masks that they make and change, their regions, the label's score."""
        config = self._config
        person = self._person(label, state, session)
        corrected = state.corrected(label, person)
        refined = state.refinable(label) if config.refine == "all" else []
        clicks = [*state.other_clicks, *state.clicks]  # the newest last
        prompts = Prompts(
            clicks,
            labels=self._labels,
            wanted=[label, *refined],
            earlier_clicks=state.earlier_clicks(label, corrected),
            masks=state.mask_prompts(label, corrected),
            boxes=boxes,
            suggest=config.suggest == "all",
            everyone=config.people == "everyone",
        )
        prediction = self._runtime.computing.run(partial(session.predict, prompts), stage="predict")
        on_others = None
        is_a_guess = corrected is not None and corrected.from_prediction and corrected.person is None
        if corrected is not None and is_a_guess and config.people == "one":
            on_others = self._runtime.computing.run(partial(prediction.people.on_others, corrected.mask, state.clicks))
        with self._runtime.metrics.stage("encode"):
            answered = answer_masks(
                state,
                label,
                prediction.masks,
                corrected,
                may_overlap=config.overlap == "yes",
                refined=refined,
                on_others=on_others,
                person=person,
            )
            score = prediction.scores[label]
            regions: list[dict[str, Any]] = []
            for n, answer in enumerate(answered):
                is_on_others = n > 0 and answer.label == label
                own = [] if is_on_others else [c for c in clicks if c.part == answer.label]
                its_score = prediction.scores.get(answer.label, score) if answer.score is None else answer.score
                clicks_of_it = with_new(answer.clicks, own, round(1000 * time()))
                answered[n] = replace(answer, clicks=clicks_of_it, score=its_score)
                written = self._regions(answered[n])
                answered[n] = replace(answered[n], pieces=len(written))
                regions += written
        return answered, regions, score

    def _person(self, label: str, state: AnnotationState, session: PhotoSession) -> int | None:
        """Whose the clicks of a label are; ``None`` where masks do not say whose they are."""
        if not self._tells_people_apart:
            return None
        own = [click for click in state.clicks if click.part == label]
        people = self._runtime.computing.run(partial(session.people, Prompts(own, labels=self._labels)))
        return clicked_person(state.accepted, own, people)

    def _regions(self, mask: AcceptedMask) -> list[dict[str, Any]]:
        told = (mask.id, mask.clicks, mask.person, mask.pieces)
        return mask_regions(
            mask.mask, mask.label, mask.score or 0.0, self._config, *told, from_prediction=mask.from_prediction
        )

    def _written(self, regions: Sequence[dict[str, Any]], score: float) -> Answer:
        return {"result": list(regions), "score": float(score), "model_version": self._predictor.version}

    def _name(self, task: Mapping[str, Any]) -> str:
        """Names the project, the task, and its image and brush, for the recent answers."""
        return self._names(task)[0]

    def _names(self, task: Mapping[str, Any]) -> list[str]:
        """The same, of all pairs of controls; the pair that was clicked comes first."""
        named = (self._project, task["data"] if task.get("id") is None else task["id"])
        pairs = (self._config, *self._config.others)
        return [short_name((*named, pair.image, pair.item, pair.brush)) for pair in pairs]


def load_photo(
    runtime: Runtime, project: str | None, config: LabelConfig, task: Mapping[str, Any], told: Connection | None = None
) -> tuple[NDArray[np.uint8], str]:
    """Returns a task's photo, (H, W, 3) uint8 RGB, and its key.

    Args:
        runtime: Knows the photos, and the Label Studio of the project.
        project: Label Studio's id of the project; ``None`` if it is not known.
        config: The project's label config.
        task: Label Studio's task.
        told: The Label Studio that the SDK's own server named, if it did.

    Raises:
        ImageError: If it cannot be had.
        LabelStudioError: If Label Studio does not give it.
    """
    url = address_of(task, config.value, project)
    connection = runtime.connection(project) or told
    hostname = connection.hostname if connection else None
    token = connection.token if connection else None
    named = (connection.told if connection else "") or (told.hostname if told else "")
    image = runtime.images.load(url, hostname=hostname, token=token, told=named)
    return image, short_name((hostname, url))
