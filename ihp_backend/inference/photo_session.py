"""One photo in one request: from clicks and masks to masks.

The coarse pass finds the people, the prompts say who of them is meant, and the region of interest around them goes
through the network. Post-processing makes the answer honour every click.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ihp_backend.cache import LoadingCache
from ihp_backend.clicks import Click
from ihp_backend.geometry import Box, View, box_of, digest, working_size
from ihp_backend.inference.click_free import click_free, coarse_size
from ihp_backend.inference.engine import Engine
from ihp_backend.inference.label_channels import Channels
from ihp_backend.inference.logits import best_channel
from ihp_backend.inference.people import People
from ihp_backend.inference.postprocess.guided_upsampling import GuidedUpsampling
from ihp_backend.inference.postprocess.split_people import innermost, unseen_heads
from ihp_backend.inference.postprocess.steps import Inputs, PostprocessConfig, postprocess
from ihp_backend.inference.prediction import Parse, Prediction
from ihp_backend.inference.prompts import Prompts
from ihp_backend.inference.roi import Target
from ihp_backend.network.click_maps import Point
from ihp_backend.network.parser import MASKED_LOGIT

_ZOOMS = 3
"""At most so many zoom-ins."""
_PREFETCHED = 4
"""For at most so many people, the largest ones, features are computed ahead."""
_CHAIN = 24
"""At most so many corrections in a row are replayed if their parses are not remembered."""


@dataclass(frozen=True)
class Caches:
    """What is kept of photos between requests. It only makes answers faster.

    Attributes:
        people: The people of a coarse pass; each takes about 1.5 MB.
        parses: The last parses; each takes about 6 MB with its probabilities, 9 MB after a correction.
        upsampling: The photos' brightness, a byte for each pixel of the region of interest.
    """

    people: LoadingCache[Hashable, People] = field(
        default_factory=lambda: LoadingCache(32 * 2**20, lambda people: _bytes_of(people.coarse))
    )
    parses: LoadingCache[Hashable, Parse] = field(default_factory=lambda: LoadingCache(32 * 2**20, _bytes_of))
    upsampling: LoadingCache[Hashable, GuidedUpsampling] = field(
        default_factory=lambda: LoadingCache(16 * 2**20, lambda upsampling: upsampling.grey.nbytes)
    )


class PhotoSession:
    """One photo in one request. ``Predictor.open`` makes it."""

    def __init__(
        self,
        engine: Engine,
        image: NDArray[np.uint8],
        key: str | None,
        caches: Caches,
        steps: PostprocessConfig | None = None,
    ) -> None:
        """Takes the photo.

        Args:
            engine: Runs the network.
            image: (H, W, 3) uint8 RGB.
            key: Names the photo in the memory of features; ``None`` keeps none.
            caches: What is kept of photos, under their keys.
            steps: The steps of post-processing; by default all of them.

        Raises:
            ValueError: If the image has another shape or type.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"the image is {image.dtype} of shape {image.shape}; expected uint8 (H, W, 3)")
        self.image, self.key = image, key
        self._engine, self._caches, self._steps = engine, caches, steps or PostprocessConfig()
        self._config, self._schema = engine.config, engine.config.parts

    def predict(self, prompts: Prompts) -> Prediction:
        """Answers the prompts with masks. Masks of different labels do not overlap.

        Raises:
            ValueError: If a label is unknown, or a mask prompt has another shape than the photo.
        """
        prompts.check(self._schema, *self.image.shape[:2])
        prompts = self.with_clicks_in_boxes(prompts)
        clicks, labels = tuple(prompts.clicks), prompts.parts(self._schema)
        target, earlier = self._find_target(prompts), prompts.earlier_clicks
        if not prompts.everyone:
            earlier = target.among.on_same_person(earlier, clicks)
        # Earlier clicks on the same person may widen the region of interest: then the zoom-ins are others.
        parse = self._remembered(prompts.after((*earlier, *clicks)), None if earlier else target)
        asked = list(prompts.wanted or ())
        if prompts.wanted is None or prompts.suggest:
            asked += [label for label in self.suggested(parse, labels) if label not in (*prompts.masks, *asked)]
        without = parse.channels.without_channel if self._config.open_channels else frozenset()
        waiting = [c for c in clicks if c.part in without and c.part in asked]
        later = list(dict.fromkeys(c.part for c in waiting))
        masks: dict[str, NDArray[np.bool_]] = {}
        scores: dict[str, float] = {}
        answered = np.zeros(self.image.shape[:2], bool)
        for label in (label for label in asked if label not in later):
            mask = np.greater(parse.mask(label), answered)  # along the photo's edges two may meet by a pixel
            if label in prompts.boxes:
                mask &= prompts.boxes[label].filled(*mask.shape)
            answered |= mask
            if mask.any() or label in {c.part for c in clicks}:
                masks[label], scores[label] = mask, parse.score(label)
        if waiting:
            # More custom classes than open-class channels: a further pass, in which these are the newest.
            newest_last = [*(c for c in clicks if c not in waiting), *waiting]
            more = self.predict(replace(prompts, clicks=newest_last, wanted=later, suggest=False))
            masks |= {label: mask & ~answered for label, mask in more.masks.items()}
            scores |= more.scores
        return Prediction(masks, scores, target.among, parse)

    def people(self, prompts: Prompts) -> People:
        """Returns the people in the photo, after the zoom-ins that the prompts need.

        Raises:
            ValueError: If a label is unknown, or a mask prompt has another shape than the photo.
        """
        prompts.check(self._schema, *self.image.shape[:2])
        return self._find_target(prompts).among

    def with_clicks_in_boxes(self, prompts: Prompts) -> Prompts:
        """Puts a positive click into each box that has none, at the innermost pixel of the label's mask in that box.

        The middle of a box may be on another part: the middle of the hair's box is on the face.
        """
        clicks = list(prompts.clicks)
        for label, box in prompts.boxes.items():
            if any(c.part == label and c.is_positive and box.holds(c.x, c.y) for c in clicks):
                continue
            middle = Click((box.left + box.right) / 2, (box.top + box.bottom) / 2, label)
            seen = Prompts(labels=prompts.labels, everyone=prompts.everyone)
            parse = self._parse(seen, self._find_target(replace(seen, clicks=[middle])), None)
            inside = (parse.mask(label) & box.filled(*self.image.shape[:2]))[box.slices]
            if inside.any():
                column, row = innermost(inside)
                middle = Click(box.left + column + 0.5, box.top + row + 0.5, label)
            clicks.append(middle)
        return replace(prompts, clicks=clicks)

    def suggested(self, parse: Parse, labels: Mapping[str, tuple[str, ...]]) -> list[str]:
        """Returns the labels, except the background, that a parse predicts with some certainty."""
        named = [label for label, parts in labels.items() if parts != self._schema.names[:1]]
        seen, doubts = [label for label in named if parse.is_seen(label)], self._steps.drop_guesses
        return [label for label in seen if doubts is None or doubts.keeps(parse, label)]

    def parse(self, prompts: Prompts, previous: Parse | None = None) -> Parse:
        """Parses the photo.

        Args:
            prompts: The clicks, labels and mask prompts.
            previous: The parse before the newest click. The network sees it, and what the click does not point at
                stays as it was there.

        Raises:
            ValueError: If a label is unknown, or a mask prompt has another shape than the photo.
        """
        prompts.check(self._schema, *self.image.shape[:2])
        return self._parse(prompts, self._find_target(prompts), previous)

    def _parse(self, prompts: Prompts, target: Target, previous: Parse | None) -> Parse:
        """Parses the region of interest around those people whom the prompts mean."""
        clicks, labels, people = tuple(prompts.clicks), prompts.parts(self._schema), target.among
        channels = Channels(self._schema, self._config.open_channels, labels, clicks, prompts.masks, people.coarse)
        if previous is not None and not channels.agree_with(previous.channels):
            previous = None
        view = self._view(target)
        seen = previous
        if previous is None and prompts.everyone and (clicks or prompts.masks):
            # Training teaches the network to keep whom it is shown; else it takes who is not clicked for background.
            seen = self._remembered(Prompts(labels=prompts.labels, everyone=True), target)
            seen = seen if channels.agree_with(seen.channels) else None
        prev_mask = self._prev_mask(view, channels, prompts.masks, seen)
        assigned = [(c, channels.at(c.part, c.x, c.y)) for c in clicks]
        placed = [Point(c.x, c.y, channel, c.is_positive) for c, channel in assigned if channel is not None]
        points = [p._replace(x=u, y=v) for p in placed for u, v in [view.into(p.x, p.y)]]
        if not points and not prompts.masks and previous is None:
            logits, embedding = self._click_free(view), None
        else:
            logits, embedding = self._engine.run(self.image, view, points, prev_mask, self.key)
        has_negative = any(not point.is_positive for point in points)  # nobody else asks what led before
        heads = unseen_heads(people.coarse, people.heads, placed) if self._steps.split_people else []
        inputs = Inputs(
            points,
            embedding,
            [view.into(x, y) for x, y in (*people.heads, *heads)],
            prompts.everyone,
            previous,
            _leading(view, previous, prev_mask) if has_negative and self._steps.remove_wrong_piece else None,
            self._upsampling(view),
        )
        return self._postprocessed(view, logits, channels, clicks, inputs)

    def prefetch(self) -> list[Callable[[], None]]:
        """Returns steps, one for each of the largest people, that compute ahead what a first click on them needs."""

        def compute_features(click: Click) -> None:
            target = self._find_target(Prompts([click]))
            if self._engine.keeps_features:
                self._engine.encode(self.image, self._view(target), self.key)

        people = self._find_target(Prompts()).among
        return [partial(compute_features, click) for click in people.centres()[:_PREFETCHED]]

    def _remembered(self, prompts: Prompts, target: Target | None = None, depth: int = 0) -> Parse:
        """The parse after the clicks. A further click of a label, or a negative one, corrects the parse before it.

        The same request, or one at the same time, gets the same parse. The parse before finds its people by its own
        clicks alone, so it is the same whether it was remembered or is computed anew, on any replica.
        """
        clicks = tuple(prompts.clicks)

        def parse() -> Parse:
            clicked_before = {c.part for c in clicks[:-1]}
            is_correction = bool(clicks) and (clicks[-1].part in clicked_before or not clicks[-1].is_positive)
            previous = None
            if is_correction and depth < _CHAIN:
                previous = self._remembered(prompts.after(clicks[:-1]), depth=depth + 1)
            return self._parse(prompts, target or self._find_target(prompts), previous)

        labels = tuple(prompts.parts(self._schema).items())
        masks = tuple((label, digest(mask)) for label, mask in prompts.masks.items())
        asked = (self.key, self.image.shape, clicks, labels, masks, prompts.everyone)
        return self._caches.parses.get(asked, parse)

    def _find_target(self, prompts: Prompts) -> Target:
        """Finds the people, by as many zoom-ins as it takes to see well those whom the prompts mean."""
        height, width = self.image.shape[:2]
        target = self._target(self._coarse_pass(Box(0, 0, width, height)), prompts)
        for _ in range(_ZOOMS):
            box = target.zoom_in()
            if box is None:
                break
            found = self._target(self._coarse_pass(box), prompts)
            if found.is_missing and not target.is_missing:
                break
            if target.is_missing and found.fills(box):
                break  # somebody larger than this, of whom the pass before saw nothing
            target = found
        return target

    def _target(self, people: People, prompts: Prompts) -> Target:
        """Tells which of the people the prompts mean; where a click means everyone, all of them."""
        if prompts.everyone:
            return Target.of(people, (), {}, set())
        labels = prompts.parts(self._schema)
        background = {label for label, parts in labels.items() if parts == self._schema.names[:1]}
        return Target.of(people, prompts.clicks, prompts.masks, background)

    def _coarse_pass(self, box: Box) -> People:
        """Finds the people in a part of the photo by a small parse without clicks."""

        def find() -> People:
            view = View(box, *coarse_size(box, self._config.area))
            channels = Channels(
                self._schema, self._config.open_channels, {name: (name,) for name in self._schema.names}
            )
            nothing = self._engine.no_prev_mask(view)
            logits, embedding = self._engine.run(self.image, view, (), nothing, self.key)
            coarse = self._postprocessed(view, logits, channels, (), Inputs(embedding=embedding))
            return People.of(coarse, self._steps.split_people)

        return self._caches.people.get((self.key, self.image.shape, box), find)

    def _view(self, target: Target) -> View:
        box = target.region_of_interest()
        return View(box, *working_size(box.height, box.width, area=self._config.area))

    def _prev_mask(
        self, view: View, channels: Channels, masks: Mapping[str, NDArray[np.bool_]], previous: Parse | None
    ) -> NDArray[np.float32]:
        """What the network sees of the parse before and of the mask prompts, (K, h, w)."""
        prev_mask = self._engine.no_prev_mask(view)
        if previous is not None:
            previous.write_prev_mask(view, prev_mask)
        for label, mask in masks.items():
            box = box_of(mask)
            if box is None:
                continue
            small = view.coverage(mask, box)
            channel = channels.at(label, (box.left + box.right) / 2, (box.top + box.bottom) / 2)
            if channel is not None:
                prev_mask[:, small > 0.5] = 0
                prev_mask[channel] = np.maximum(prev_mask[channel], small)
        return prev_mask

    def _click_free(self, view: View) -> NDArray[np.float32]:
        steps = self._steps
        return click_free(self._engine, self.image, view, self.key, flip=steps.flip, second_size=steps.second_size)

    def _postprocessed(
        self, view: View, logits: NDArray[np.float32], channels: Channels, clicks: Sequence[Click], inputs: Inputs
    ) -> Parse:
        """Turns logits (K, h, w) into a parse, in place; custom classes that nobody asks for are masked."""
        logits[[c for c in self._config.optional if c not in channels.used]] = MASKED_LOGIT
        height, width = self.image.shape[:2]
        return postprocess(Parse(height, width, view, logits, channels, tuple(clicks)), inputs, self._steps)

    def _upsampling(self, view: View) -> GuidedUpsampling | None:
        options = self._steps.guided_upsampling
        if options is None:
            return None
        return self._caches.upsampling.get((self.key, view), lambda: GuidedUpsampling.of(self.image, view, options))


def _leading(view: View, previous: Parse | None, prev_mask: NDArray[np.float32]) -> NDArray[np.intp] | None:
    """The leading channels (h, w) before the newest click, as far as they are known."""
    if previous is not None:
        return previous.best_from(view)
    return best_channel(prev_mask) if prev_mask.any() else None


def _bytes_of(parse: Parse) -> int:
    # The logits, the probabilities once somebody asks for them, and after a correction the network's own logits.
    logits = (2 if parse.predicted is None else 3) * parse.logits.nbytes
    return logits + (parse.upsampling.grey.nbytes if parse.upsampling else 0)
