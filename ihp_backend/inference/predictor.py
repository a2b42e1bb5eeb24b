"""Image, clicks and accepted masks become masks of parts. Stateless: any replica can answer.

The steps: find the person (a coarse look at the whole photo, remembered for each image), crop to them, draw the
localization maps, run the network, correct what contradicts a click, and paste the masks back at full size.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.geometry import Box, View, working_size
from ihp_backend.inference.channels import Channels
from ihp_backend.inference.focus import person_box
from ihp_backend.inference.obedience import obey
from ihp_backend.inference.parse import Parse
from ihp_backend.inference.tidy import tidy
from ihp_backend.localization import Point, localization_maps
from ihp_backend.network.folding import folded
from ihp_backend.network.parser import SILENT, HumanParser
from ihp_backend.network.weights import WeightsError, find_weights, load_parser
from ihp_backend.parts import Schema

log = logging.getLogger(__name__)

_COARSE_SHARE = 0.5
"""The coarse look at the whole photo takes this share of the working area."""
_LEAST_SCORE = 0.25
"""Unasked, only parts with at least this expected IoU are suggested: the others would only have to be deleted."""
_REMEMBERED = 256
"""Photos whose coarse parse is kept; each takes about 100 KB."""


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


class Predictor:
    """Serves one set of weights; may be shared by threads."""

    def __init__(self, parser: HumanParser, *, version: str = "unversioned", device: str = "cpu") -> None:
        """Takes a network.

        Args:
            parser: The network.
            version: What predictions call it.
            device: A torch device.
        """
        self.device = torch.device(device)
        self.parser = folded(parser).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.version = version
        self.config = parser.config
        self.schema: Schema = parser.config.parts
        self._coarse: OrderedDict[str, Parse] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def load(cls, weights: str | Path, *, device: str = "auto", threads: int | None = None) -> Self:
        """Loads weights by name (in model_weights/) or folder.

        Args:
            weights: Name or folder.
            device: A torch device, or ``auto``: a GPU if there is one.
            threads: CPU threads of a forward pass; ``None`` leaves torch's choice.

        Raises:
            WeightsError: If the weights are missing or damaged, or the device is not there.
        """
        if threads:
            torch.set_num_threads(threads)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device.startswith("cuda") and not torch.cuda.is_available():
            raise WeightsError(f"device {device!r} asked for, but torch sees no GPU; use 'auto' or 'cpu'")
        folder = find_weights(weights)
        parser, info = load_parser(folder)
        try:
            torch.device(device)
        except RuntimeError as error:
            raise WeightsError(f"device {device!r} is not one of auto, cpu, cuda and cuda:N") from error
        return cls(parser, version=str(info.get("version", folder.name)), device=device)

    def predict(
        self,
        image: NDArray[np.uint8],
        clicks: Sequence[Click] = (),
        *,
        labels: Mapping[str, tuple[str, ...]] | None = None,
        wanted: Sequence[str] | None = None,
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
        parse = self.parse(image, clicks, labels=labels, accepted=accepted, image_key=image_key, everyone=everyone)
        asked = list(wanted or ())
        if wanted is None or suggest:
            background = self.schema.names[:1]
            others = [label for label, parts in labels.items() if parts != background and label not in accepted]
            seen = [label for label in others if parse.is_seen(label) and parse.score(label) >= _LEAST_SCORE]
            asked += [label for label in seen if label not in asked]
        masks, scores = {}, {}
        for label in asked:
            mask = parse.mask(label)
            for other, taken in accepted.items():
                if other != label and not overlap:
                    mask &= ~taken
            if mask.any() or label in {c.part for c in clicks}:
                masks[label], scores[label] = mask, parse.score(label)
        return Prediction(masks, scores)

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
        """Parses the photo; see ``predict``. ``previous`` is the parse before the newest click, if it is at hand."""
        labels = labels if labels is not None else {name: (name,) for name in self.schema.names}
        accepted = accepted or {}
        self._check(image, clicks, labels, accepted)
        height, width = image.shape[:2]
        coarse = self._look(image, image_key)
        channels = Channels(self.schema, self.config.spares, labels, clicks, accepted, coarse)
        meant, shown = ((), {}) if everyone else (clicks, accepted)
        box = person_box(coarse, meant, shown, height, width)
        view = View(box, *working_size(box.height, box.width, area=self.config.area))
        known = self._nothing_known(view)
        if previous is not None:
            previous.resample(view, known)
        for label, mask in accepted.items():
            small = cv2.resize(mask[box.slices].astype(np.float32), known.shape[:0:-1], interpolation=cv2.INTER_AREA)
            rows, columns = np.nonzero(mask)
            if not rows.size:
                continue
            channel = channels.at(label, float(columns.mean()), float(rows.mean()))
            if channel is not None:
                known[:, small > 0.5] = 0
                known[channel] = np.maximum(known[channel], small)
        points = []
        for click in clicks:
            channel = channels.at(click.part, click.x, click.y)
            if channel is not None:
                points.append(Point(*view.into(click.x, click.y), channel, click.is_positive))
        return self._run(image, view, points, known, channels, clicks, everyone=everyone)

    def warm(self, image: NDArray[np.uint8], image_key: str) -> None:
        """Does ahead what the first click on an image would have to wait for."""
        self._look(image, image_key)

    def _look(self, image: NDArray[np.uint8], key: str | None) -> Parse:
        """A coarse parse of the whole photo, without clicks."""
        with self._lock:
            if key is not None and key in self._coarse:
                self._coarse.move_to_end(key)
                return self._coarse[key]
        height, width = image.shape[:2]
        view = View(
            Box(0, 0, width, height), *working_size(height, width, area=round(_COARSE_SHARE * self.config.area))
        )
        known = self._nothing_known(view)
        channels = Channels(self.schema, self.config.spares, {name: (name,) for name in self.schema.names})
        coarse = self._run(image, view, [], known, channels, ())
        if key is not None:
            with self._lock:
                self._coarse[key] = coarse
                while len(self._coarse) > _REMEMBERED:
                    self._coarse.popitem(last=False)
        return coarse

    def _run(
        self,
        image: NDArray[np.uint8],
        view: View,
        points: Sequence[Point],
        known: NDArray[np.float32],
        channels: Channels,
        clicks: Sequence[Click],
        *,
        everyone: bool = False,
    ) -> Parse:
        config = self.config
        rgb = (view.crop(image).astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)).transpose(2, 0, 1)
        maps = localization_maps(
            points, config.channels, view.height, view.width, kind=config.maps, size=config.map_size
        )
        with torch.inference_mode():
            output = self.parser(self._tensor(rgb[None]), self._tensor(maps[None]), self._tensor(known[None]))
        logits = output.logits[0].float().cpu().numpy()
        logits[[c for c in config.optional if c not in channels.used]] = SILENT
        embedding = None if output.embedding is None else output.embedding[0].float().cpu().numpy()
        return Parse(
            height=image.shape[0],
            width=image.shape[1],
            view=view,
            logits=tidy(obey(logits, embedding, points), points, one_person=not everyone),
            channels=channels,
            clicks=tuple(clicks),
        )

    def _nothing_known(self, view: View) -> NDArray[np.float32]:
        # Channels last in memory, as the network wants it.
        return np.zeros((view.height // 2, view.width // 2, self.config.channels), np.float32).transpose(2, 0, 1)

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device).contiguous(memory_format=torch.channels_last)

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
