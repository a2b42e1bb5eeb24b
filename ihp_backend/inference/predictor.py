"""Weights, ready to answer: a predictor opens photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ihp_backend.clicks import Click
from ihp_backend.inference.engine import FEATURE_CACHE_MB, Engine
from ihp_backend.inference.photo_session import Caches, PhotoSession
from ihp_backend.inference.postprocess.steps import PostprocessConfig
from ihp_backend.inference.prediction import Parse, Prediction
from ihp_backend.inference.prompts import Prompts
from ihp_backend.network.parser import HumanParser
from ihp_backend.network.weights import WeightsError, find_weights, load_parser
from ihp_backend.parts import Schema


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
    """Serves one set of weights; may be shared by threads.

    Attributes:
        engine: Runs the network.
        version: Name of the weights' version.
        config: The network's configuration.
        schema: The parts that the network knows.
    """

    def __init__(
        self,
        parser: HumanParser,
        *,
        version: str = "unversioned",
        device: str = "cpu",
        cache_mb: int = FEATURE_CACHE_MB,
        steps: PostprocessConfig | None = None,
    ) -> None:
        """Takes a network.

        Args:
            parser: The network.
            version: What predictions call it.
            device: A torch device.
            cache_mb: Memory for features of photos, in MB; 0 keeps none.
            steps: The steps of post-processing; by default all of them.
        """
        self.engine = Engine(parser, device=device, cache_mb=cache_mb)
        self.version = version
        self.config = parser.config
        self.schema: Schema = parser.config.parts
        self._steps = steps or PostprocessConfig()
        self._caches = Caches()

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
        steps: PostprocessConfig | None = None,
    ) -> Self:
        """Loads weights by name (in model_weights/) or folder.

        Args:
            weights: Name or folder.
            device: A torch device, or ``auto``: a GPU if there is one.
            cache_mb: Memory for features of photos, in MB; 0 keeps none.
            steps: The steps of post-processing; by default all of them.

        Raises:
            WeightsError: If the weights are missing or damaged, or the device is not there.
        """
        device = find_device(device)
        folder = find_weights(weights)
        parser, info = load_parser(folder)
        version = str(info.get("version") or folder.name)
        return cls(parser, version=version, device=device, cache_mb=cache_mb, steps=steps)

    def open(self, image: NDArray[np.uint8], key: str | None = None) -> PhotoSession:
        """Opens a photo for one request.

        Args:
            image: (H, W, 3) uint8 RGB.
            key: Names the photo: what was computed for a photo of this key is used again. ``None`` remembers nothing.

        Raises:
            ValueError: If the image has another shape or type.
        """
        return PhotoSession(self.engine, image, key, Caches() if key is None else self._caches, self._steps)

    def predict(
        self, image: NDArray[np.uint8], clicks: Sequence[Click] = (), *, key: str | None = None, **prompts: Any
    ) -> Prediction:
        """Opens a photo and answers once, see ``PhotoSession.predict``; ``prompts`` are those of ``Prompts``."""
        return self.open(image, key).predict(Prompts(clicks, **prompts))

    def parse(
        self,
        image: NDArray[np.uint8],
        clicks: Sequence[Click] = (),
        *,
        key: str | None = None,
        previous: Parse | None = None,
        **prompts: Any,
    ) -> Parse:
        """Opens a photo and parses it once, see ``PhotoSession.parse``; ``prompts`` are those of ``Prompts``."""
        return self.open(image, key).parse(Prompts(clicks, **prompts), previous)
