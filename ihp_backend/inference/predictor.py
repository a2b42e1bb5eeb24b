"""Image, clicks and accepted masks become masks of parts. Stateless: any replica can answer.

The steps: find the person (a coarse look at the photo, and a closer one where they are small), crop to them, draw the
localization maps, run the network, correct what contradicts a click, keep what a correction does not point at, and
paste the masks back at full size. What is remembered only makes it faster.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ihp_backend.cache import LoadingCache
from ihp_backend.clicks import Click
from ihp_backend.geometry import Box, View, box_of, digest, working_size
from ihp_backend.inference.engine import FEATURE_CACHE_MB, Engine
from ihp_backend.inference.head_seeds import Place, unseen_heads
from ihp_backend.inference.label_channels import Channels
from ihp_backend.inference.postprocess.enforce_clicks import obey
from ihp_backend.inference.postprocess.guided_upsampling import Guide
from ihp_backend.inference.postprocess.progressive_merge import take_over
from ihp_backend.inference.postprocess.remove_small_regions import tidy
from ihp_backend.inference.prediction import Parse
from ihp_backend.inference.roi import Aim, Figures, keep_unclicked
from ihp_backend.network.click_maps import Point
from ihp_backend.network.parser import SILENT, HumanParser
from ihp_backend.network.weights import WeightsError, find_weights, load_parser
from ihp_backend.parts import IGNORE, Schema

_COARSE_SHARE = 0.5
"""The coarse look at the whole photo takes this share of the working area."""
_LEAST_SCORE = 0.25
"""Unasked, only parts with at least this expected IoU are suggested: the others would only have to be deleted."""
_LOOKS = 3
"""At most so many times a part of the photo is looked at again."""
_WARMED = 4
"""The largest people of a photo are made ready for a click, at most so many."""
_LEAST_ON_OTHERS = 0.05
"""Less than this share of a mask on somebody else is a border that is not exact."""
_CHAIN = 24
"""At most so many corrections in a row are replayed where they are not remembered."""
_LOOKS_MB = 12
"""Memory for looks; each takes about 1.5 MB."""
_PARSES_MB = 32
"""Memory for the last parses; each takes about 6 MB with its probabilities, 9 MB after a correction."""
_GUIDES_MB = 16
"""Memory for what photos look like; each takes a byte for each pixel of the view's box."""


@dataclass(frozen=True)
class Prediction:
    """Masks by label.

    Attributes:
        masks: (H, W) bool for each answered label.
        scores: Expected IoU of each mask, 0 to 1, by the network's own probabilities.
    """

    masks: dict[str, NDArray[np.bool_]]
    scores: dict[str, float]

    @property
    def score(self) -> float:
        """Mean of the scores; 0 without masks."""
        return float(np.mean(list(self.scores.values()))) if self.scores else 0.0


def find_device(name: str) -> str:
    """Returns the device that a name stands for; ``auto`` is a GPU if there is one.

    Raises:
        WeightsError: If there is no such device, or it is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise WeightsError(f"device {name!r} asked for, but torch sees no GPU; use 'auto' or 'cpu'")
    try:
        known = torch.device(name).type in ("cpu", "cuda")
    except RuntimeError:
        known = False
    if not known:
        raise WeightsError(f"device {name!r} is not one of auto, cpu, cuda and cuda:N")
    return name


class Predictor:
    """Serves one set of weights; may be shared by threads."""

    def __init__(
        self,
        parser: HumanParser,
        *,
        version: str = "unversioned",
        device: str = "cpu",
        cache_mb: int = FEATURE_CACHE_MB,
    ) -> None:
        """Takes a network.

        Args:
            parser: The network.
            version: What predictions call it.
            device: A torch device.
            cache_mb: Memory for features of photos, in MB; 0 keeps none.
        """
        self.engine = Engine(parser, device=device, cache_mb=cache_mb)
        self.version = version
        self.config = parser.config
        self.schema: Schema = parser.config.parts
        self._looks: LoadingCache[Hashable, Figures] = LoadingCache(_LOOKS_MB * 2**20, lambda f: _bytes_of(f.look))
        self._parses: LoadingCache[Hashable, Parse] = LoadingCache(_PARSES_MB * 2**20, _bytes_of)
        self._guides: LoadingCache[Hashable, Guide] = LoadingCache(_GUIDES_MB * 2**20, _bytes_of_guide)

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.engine.device

    @classmethod
    def load(
        cls,
        weights: str | Path,
        *,
        device: str = "auto",
        cache_mb: int = FEATURE_CACHE_MB,
    ) -> Self:
        """Loads weights by name (in model_weights/) or folder.

        Args:
            weights: Name or folder.
            device: A torch device, or ``auto``: a GPU if there is one.
            cache_mb: Memory for features of photos, in MB; 0 keeps none.

        Raises:
            WeightsError: If the weights are missing or damaged, or the device is not there.
        """
        device = find_device(device)
        folder = find_weights(weights)
        parser, info = load_parser(folder)
        return cls(parser, version=str(info.get("version") or folder.name), device=device, cache_mb=cache_mb)

    def predict(
        self,
        image: NDArray[np.uint8],
        clicks: Sequence[Click] = (),
        *,
        labels: Mapping[str, tuple[str, ...]] | None = None,
        wanted: Sequence[str] | None = None,
        settled: Sequence[Click] = (),
        accepted: Mapping[str, NDArray[np.bool_]] | None = None,
        image_key: str | None = None,
        suggest: bool = False,
        everyone: bool = False,
        overlap: bool = False,
    ) -> Prediction:
        """Answers with masks.

        Args:
            image: (H, W, 3) uint8 RGB.
            clicks: All clicks that are open, of any label.
            labels: Every label of the project and the schema's parts it stands for (none: the clicks alone define
                it; several: their union). Default: the schema's own names.
            wanted: Labels to answer; ``None`` answers every label that is seen with some certainty, the background
                excepted.
            settled: Clicks behind masks that the annotator has accepted, oldest first; they came before ``clicks``.
                They inform; nothing is promised of them.
            accepted: Masks (H, W) that the annotator has accepted. Other labels' masks guide and are not touched.
            image_key: Names the image for the memory of its coarse parse; ``None`` remembers nothing.
            suggest: Answer, beside the wanted labels, the others that are seen and not accepted.
            everyone: A click means everyone in the image, not the one person it is on.
            overlap: New masks may run over accepted ones.

        Raises:
            ValueError: If a click, wanted or accepted label is not among the labels, or the image has another shape.
        """
        labels = labels if labels is not None else {name: (name,) for name in self.schema.names}
        accepted = accepted or {}
        self._check(image, (*clicks, *settled), labels, accepted)
        if settled and not everyone:
            settled = self._on_the_same_person(image, image_key, settled, clicks)
        parse = self._after(image, (*settled, *clicks), labels, accepted, image_key, everyone)
        asked = list(wanted or ())
        if wanted is None or suggest:
            asked += [label for label in self.suggested(parse, labels) if label not in (*accepted, *asked)]
        masks: dict[str, NDArray[np.bool_]] = {}
        scores: dict[str, float] = {}
        answered = np.zeros(image.shape[:2], bool)
        for label in asked:
            mask = np.greater(parse.mask(label), answered)  # along the photo's edges two may meet by a pixel
            for other, taken in accepted.items():
                if other != label and not overlap:
                    mask &= ~taken
            answered |= mask
            if mask.any() or label in {c.part for c in clicks}:
                masks[label], scores[label] = mask, parse.score(label)
        return Prediction(masks, scores)

    def suggested(self, parse: Parse, labels: Mapping[str, tuple[str, ...]]) -> list[str]:
        """The labels of a parse that are answered unasked: seen with some certainty, the background excepted."""
        named = [label for label, parts in labels.items() if parts != self.schema.names[:1]]
        return [label for label in named if parse.is_seen(label) and parse.score(label) >= _LEAST_SCORE]

    def parse(
        self,
        image: NDArray[np.uint8],
        clicks: Sequence[Click] = (),
        *,
        labels: Mapping[str, tuple[str, ...]] | None = None,
        accepted: Mapping[str, NDArray[np.bool_]] | None = None,
        image_key: str | None = None,
        previous: Parse | None = None,
        everyone: bool = False,
    ) -> Parse:
        """Parses the photo; see ``predict``.

        ``previous`` is the parse before the newest click, if it is at hand: then the click changes only what it
        points at, see ``revision.take_over``.
        """
        labels = labels if labels is not None else {name: (name,) for name in self.schema.names}
        accepted = accepted or {}
        self._check(image, clicks, labels, accepted)
        figures, box = self._aim(image, image_key, *(((), {}) if everyone else (clicks, accepted)), labels)
        channels = Channels(self.schema, self.config.spares, labels, clicks, accepted, figures.look)
        if previous is not None and not channels.agree_with(previous.channels):
            previous = None
        view = self._view(box)
        known = self.engine.nothing_known(view)
        if previous is not None:
            previous.resample(view, known)
        guided = np.zeros(known.shape[1:], bool)
        for label, mask in accepted.items():
            own = box_of(mask)
            if own is None:
                continue
            small = cv2.resize(mask[box.slices].astype(np.float32), known.shape[:0:-1], interpolation=cv2.INTER_AREA)
            channel = channels.at(label, (own.left + own.right) / 2, (own.top + own.bottom) / 2)
            if channel is not None:
                guided |= small > 0.5
                known[:, small > 0.5] = 0
                known[channel] = np.maximum(known[channel], small)
        spoken = [(c, channels.at(c.part, c.x, c.y)) for c in clicks]
        placed = [Point(c.x, c.y, channel, c.is_positive) for c, channel in spoken if channel is not None]
        points = [Point(*view.into(x, y), channel, is_positive) for x, y, channel, is_positive in placed]
        is_unasked = not points and not accepted and previous is None
        parse = self._run(
            image,
            view,
            points,
            known,
            channels,
            clicks,
            heads=[*figures.heads, *unseen_heads(figures.look, figures.heads, placed)],
            everyone=everyone,
            key=image_key,
            is_unasked=is_unasked,
        )
        if everyone and (clicks or guided.any()):
            nothing = self.engine.nothing_known(view)
            seen = self._run(image, view, [], nothing, channels, (), everyone=True, key=image_key)
            parse = keep_unclicked(seen, parse, guided)
        parse = replace(parse, guide=self._guide(image, image_key, view))
        return parse if previous is None else take_over(previous, parse)

    def _on_the_same_person(
        self, image: NDArray[np.uint8], key: str | None, settled: Sequence[Click], clicks: Sequence[Click]
    ) -> list[Click]:
        """Leaves out clicks on others than those whom the open clicks mean."""
        figures, _ = self._aim(image, key, clicks, {}, {})
        meant = {figures.at(c.x, c.y) for c in clicks if c.is_positive} or {figures.at(c.x, c.y) for c in clicks}
        return [c for c in settled if None in meant or figures.at(c.x, c.y) in {*meant, None}]

    def on_others(
        self,
        image: NDArray[np.uint8],
        mask: NDArray[np.bool_],
        clicks: Sequence[Click],
        *,
        image_key: str | None = None,
    ) -> NDArray[np.bool_]:
        """Returns what of a mask (H, W) is on other people than those whom the clicks mean."""
        figures, _ = self._aim(image, image_key, clicks, {}, {})
        meant = {figures.at(c.x, c.y) for c in clicks if c.is_positive}
        others = np.isin(figures.numbers, [f for f in figures.boxes if f not in meant])
        box, found = figures.look.view.box, mask.copy()  # whoever is outside of the look is somebody else, too
        found[box.slices] &= cv2.resize(others.astype(np.uint8), (box.width, box.height)) > 0
        is_known = meant and None not in meant
        return found if is_known and found.sum() >= _LEAST_ON_OTHERS * mask.sum() else np.zeros_like(mask)

    def warm(self, image: NDArray[np.uint8], image_key: str) -> None:
        """Does ahead what the first click on an image would have to wait for, whichever person it is on."""
        for step in self.warming(image, image_key):
            step()

    def warming(self, image: NDArray[np.uint8], image_key: str) -> list[Callable[[], None]]:
        """Returns the steps of ``warm``, one a person, the largest first."""

        def make_ready(click: Click) -> None:
            _, box = self._aim(image, image_key, [click], {}, {})
            if self.engine.keeps_features:
                self.engine.encode(image, self._view(box), image_key)

        figures, _ = self._aim(image, image_key, (), {}, {})
        return [partial(make_ready, click) for click in figures.middles()[:_WARMED]]

    def _after(
        self,
        image: NDArray[np.uint8],
        clicks: tuple[Click, ...],
        labels: Mapping[str, tuple[str, ...]],
        accepted: Mapping[str, NDArray[np.bool_]],
        image_key: str | None,
        everyone: bool,
        depth: int = 0,
    ) -> Parse:
        """The parse after these clicks. A further click of a label is a correction of the parse before it.

        Whoever asks the same again, or at the same time, gets the same parse.
        """

        def parse() -> Parse:
            is_correction = len(clicks) > 1 and clicks[-1].part in {c.part for c in clicks[:-1]}
            before = None
            if is_correction and depth < _CHAIN:
                before = self._after(image, clicks[:-1], labels, accepted, image_key, everyone, depth + 1)
            return self.parse(
                image,
                clicks,
                labels=labels,
                accepted=accepted,
                image_key=image_key,
                previous=before,
                everyone=everyone,
            )

        if image_key is None:
            return parse()
        masks = tuple((label, digest(mask)) for label, mask in accepted.items())
        return self._parses.get((image_key, image.shape, clicks, tuple(labels.items()), masks, everyone), parse)

    def _aim(
        self,
        image: NDArray[np.uint8],
        key: str | None,
        clicks: Sequence[Click],
        accepted: Mapping[str, NDArray[np.bool_]],
        labels: Mapping[str, tuple[str, ...]],
    ) -> tuple[Figures, Box]:
        """Finds who is meant: the look's figures, and the box that the network should see."""
        background = {label for label, parts in labels.items() if parts == self.schema.names[:1]}
        height, width = image.shape[:2]
        figures = self._look(image, key, Box(0, 0, width, height))
        aim = Aim.of(figures, clicks, accepted, background)
        for _ in range(_LOOKS):
            box = aim.look_closer(figures.look)
            if box is None:
                break
            closer = self._look(image, key, box)
            found = Aim.of(closer, clicks, accepted, background)
            if found.is_lost and not aim.is_lost:
                break
            if aim.is_lost and found.fills(box):
                break  # somebody larger than this, of whom the first look saw nothing
            figures, aim = closer, found
        return figures, aim.box(height, width)

    def _look(self, image: NDArray[np.uint8], key: str | None, box: Box) -> Figures:
        """Who is seen in a coarse parse of a part of the photo, without clicks."""

        def look() -> Figures:
            size = working_size(box.height, box.width, area=round(_COARSE_SHARE * self.config.area))
            view = View(box, *size)
            channels = Channels(self.schema, self.config.spares, {name: (name,) for name in self.schema.names})
            return Figures.of(self._run(image, view, [], self.engine.nothing_known(view), channels, ()))

        return look() if key is None else self._looks.get((key, image.shape, box), look)

    def _view(self, box: Box) -> View:
        return View(box, *working_size(box.height, box.width, area=self.config.area))

    def _guide(self, image: NDArray[np.uint8], key: str | None, view: View) -> Guide:
        return Guide.of(image, view) if key is None else self._guides.get((key, view), lambda: Guide.of(image, view))

    def _run(
        self,
        image: NDArray[np.uint8],
        view: View,
        points: Sequence[Point],
        known: NDArray[np.float32],
        channels: Channels,
        clicks: Sequence[Click],
        *,
        heads: Sequence[Place] = (),
        everyone: bool = False,
        key: str | None = None,
        is_unasked: bool = False,
    ) -> Parse:
        embedding = None
        if is_unasked:
            logits = self._unasked(image, view, key)
        else:
            logits, embedding = self.engine.run(image, view, points, known, key)
        logits[[c for c in self.config.optional if c not in channels.used]] = SILENT
        return Parse(
            height=image.shape[0],
            width=image.shape[1],
            view=view,
            logits=tidy(
                obey(logits, embedding, points),
                points,
                [view.into(x, y) for x, y in heads],
                one_person=not everyone,
            ),
            channels=channels,
            clicks=tuple(clicks),
        )

    def _unasked(self, image: NDArray[np.uint8], view: View, key: str | None) -> NDArray[np.float32]:
        """Logits (K, h/2, w/2) of a view without a click: the mean over two sizes and their mirror images.

        Without clicks to go by, four looks see better than one. What the first click needs is kept on the way.
        """
        twins = [*self.schema.mirrored, *range(len(self.schema), self.config.channels)]
        lonely = [c for c, twin in enumerate(twins) if twin == IGNORE]  # what a left hand is in the mirror nobody knows
        order = [c if c in lonely else twin for c, twin in enumerate(twins)]
        smaller = working_size(view.box.height, view.box.width, area=round(_COARSE_SHARE * self.config.area))
        sizes = []
        for seen in (view, View(view.box, *smaller)):
            nothing = self.engine.nothing_known(seen)
            logits, _ = self.engine.run(image, seen, (), nothing, key if seen is view else None)
            mirrored, _ = self.engine.run(image, seen, (), nothing, mirrored=True)
            turned = mirrored[order, :, ::-1]
            turned[lonely] = logits[lonely]
            sizes.append(logits + turned)
        full, small = sizes
        for plane, coarse in zip(full, small, strict=True):
            plane += cv2.resize(coarse, plane.shape[::-1], interpolation=cv2.INTER_LINEAR)
            plane *= 0.25
        return full

    def _check(
        self,
        image: NDArray[np.uint8],
        clicks: Sequence[Click],
        labels: Mapping[str, tuple[str, ...]],
        accepted: Mapping[str, NDArray[np.bool_]],
    ) -> None:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"the image is {image.dtype} of shape {image.shape}; expected uint8 (H, W, 3)")
        for label in (*(c.part for c in clicks), *accepted):
            if label not in labels:
                raise ValueError(f"label {label!r} is not among the labels: {', '.join(labels)}")
        for label, mask in accepted.items():
            if mask.shape != image.shape[:2]:
                raise ValueError(f"the mask of {label!r} has shape {mask.shape}, the image {image.shape[:2]}")


def _bytes_of(parse: Parse) -> int:
    # The logits, the probabilities once somebody asks for them, and after a correction the network's own logits.
    logits = (2 if parse.raw is None else 3) * parse.logits.nbytes
    return logits + (_bytes_of_guide(parse.guide) if parse.guide else 0)


def _bytes_of_guide(guide: Guide) -> int:
    return guide.grey.nbytes
