"""Training batches: a pure function of the seed, the step and the share of it, made in the background."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ihp_backend.cache import LoadingCache
from ihp_backend.data.augment import (
    ViewConfig,
    copy_paste,
    mirror,
    on_background,
    one_of_them,
    random_colours,
    random_view,
)
from ihp_backend.data.mixture import Mixture
from ihp_backend.data.sample import DataError, DataSet, Sample
from ihp_backend.geometry import OUTPUT_STRIDE
from ihp_backend.network.click_maps import Point
from ihp_backend.network.parser import ParserConfig
from ihp_backend.network.preprocessing import to_input
from ihp_backend.parts import IGNORE
from ihp_backend.simulation.sampling import SamplingConfig, first_clicks, sample_open_classes
from ihp_backend.training.batch import Batch
from ihp_backend.training.processes import Processes

_ASPECTS = (2.0, 2.0, 2.0, 2.0, 1.5, 1.5, 1.0, 1.0, 0.65)
"""Height over width of a batch; people who stand are tall, portraits are square."""


_OTHER_BACKGROUND = 0.8
"""Share of the views with another background, where the opacity of the people is known."""
_MEMORY = 2 * 2**30
"""Bytes of decoded photos that are kept by one training process and its workers."""
_AHEAD = 2
"""Batches that are made before their use, by each worker."""


class Batches:
    """Makes the batch of any step; asking again for a step gives the same batch, whoever makes it.

    Decoded photos are kept in memory, up to a limit: a few hundred photos of 600 pixels take half a gigabyte.
    """

    def __init__(
        self,
        data: DataSet,
        parser: ParserConfig,
        sampling: SamplingConfig,
        *,
        size: int,
        seed: int,
        area: Callable[[int], float],
        balance: float = 0.0,
        neighbours: float = 0.0,
        everyone: float = 0.0,
        views: ViewConfig | None = None,
        backgrounds: Sequence[NDArray[np.uint8]] = (),
        processes: Processes | None = None,
    ) -> None:
        """Prepares.

        Args:
            data: Photos.
            parser: Says which channels there are.
            sampling: How clicks are drawn.
            size: Photos in a batch, of all processes together.
            seed: Source of all randomness.
            area: Height times width of a step's photos, in pixels.
            balance: Photos with a class that a smaller share of them has are seen more often; 0: all equally often.
            neighbours: Share of the views in which somebody else stands beside the person. Without clicks the labels
                are everybody's; with clicks, those of the clicked.
            everyone: Share of the views in which a click means everyone, see ``Batch``.
            views: What part of the photos is seen.
            backgrounds: (h, w, 3) photos without people, put behind those whose opacity is known.
            processes: Who trains together; this one makes its share of each batch.

        Raises:
            ValueError: If a batch has no photo for some process.
        """
        self.processes = processes or Processes()
        if size < self.processes.count:
            raise ValueError(f"batch is {size}; expected at least a photo for each of {self.processes.count} processes")
        self.data, self.parser, self.sampling, self.size, self.seed = data, parser, sampling, size, seed
        self.area, self.views, self.neighbours, self.backgrounds = area, views or ViewConfig(), neighbours, backgrounds
        self.everyone = everyone
        self._samples = _memory_of(_MEMORY)
        self._repeats = self._repeat_factors(balance) if balance else np.ones(len(data))
        if isinstance(data, Mixture):
            self._repeats = self._repeats * data.repeats

    def indices(self, step: int) -> list[int]:
        """The photos of this process at a step: every pass over the data is a new order."""
        upto = np.cumsum(self._repeats)
        n = round(upto[-1])
        picks = []
        for place in (step * self.size + i for i in self.processes.share(self.size)):
            rng = np.random.default_rng((self.seed, place // n))
            counts = np.diff(np.floor(upto * (n / upto[-1]) + rng.random()), prepend=0.0).astype(int)
            order = rng.permutation(np.repeat(np.arange(len(counts)), counts))
            picks.append(int(order[place % n % len(order)]))
        return picks

    def _repeat_factors(self, balance: float) -> NDArray[np.float64]:
        """How often a pass shows each photo: sqrt(balance / share) of its rarest class, at least once.

        Source: repeat factor sampling, Gupta et al., "LVIS", CVPR 2019.
        """
        present = np.zeros((len(self.data), 256), bool)
        for index in range(len(self.data)):
            present[index, np.unique(self._sample(index).labels)] = True
        share = present.mean(0)
        factor = np.sqrt(balance / np.maximum(share, 1 / len(present))).clip(min=1.0)
        factor[IGNORE] = 1.0
        repeats: NDArray[np.float64] = np.where(present, factor, 1.0).max(1)
        return repeats

    def class_weights(self, power: float) -> Tensor:
        """Weights of the channels for cross-entropy: (mean share of the pixels / own share) ** power, 0.3 to 4.

        Open-class channels weigh 1.
        """
        counts: NDArray[np.float64] = np.zeros(256)
        for index in range(len(self.data)):
            counts += np.bincount(self._sample(index).labels.ravel(), minlength=256)
        counts = counts[: len(self.data.schema)].copy()
        weights = np.ones(self.parser.channels, np.float32)
        typical = np.exp(np.log(counts[counts > 0]).mean())
        weights[: len(counts)] = ((typical / np.maximum(counts, 1)) ** power).clip(0.3, 4.0)
        return torch.from_numpy(weights)

    def _sample(self, index: int) -> Sample:
        return self._samples.get(index, lambda: self.data[index])

    def make(self, step: int) -> Batch:
        """Makes the batch of a step, or this process' share of it.

        Raises:
            DataError: If a photo cannot be read; the message names it.
        """
        # All processes see photos of one size, and as many rounds: none waits for another.
        common = rng = np.random.default_rng((self.seed, 1, step))
        side = self.area(step) ** 0.5
        aspect = _ASPECTS[int(common.integers(len(_ASPECTS)))] ** 0.5
        if self.processes.count > 1:
            rng = np.random.default_rng((self.seed, 1, step, 1 + self.processes.rank, self.processes.count))
        height, width = (round(s / 16) * 16 for s in (side * aspect, side / aspect))
        schema, channels = self.data.schema, self.parser.channels
        images, labels, points, accepted, no_clicks_allowed, everyone = [], [], [], [], [], []
        names = []
        indices = self.indices(step)
        unknown = torch.zeros((len(indices), channels), dtype=torch.bool)

        def view(index: int) -> Sample:
            sample = random_view(self._sample(index), height, width, rng, self.views)
            if sample.alpha is not None and self.backgrounds and rng.random() < _OTHER_BACKGROUND:
                sample = on_background(sample, self.backgrounds[int(rng.integers(len(self.backgrounds)))], rng)
            return mirror(sample, schema) if rng.random() < 0.5 else sample

        for place, index in enumerate(indices):
            sample, other = view(index), None
            if rng.random() < self.neighbours:
                neighbour = view(int(rng.integers(len(self.data))))
                sample, other = copy_paste(sample, neighbour, rng)
                unknown[place, list(neighbour.unknown)] = True
            else:
                sample, other = one_of_them(sample, rng)
            means_everyone, meant = rng.random() < self.everyone, sample.labels
            if means_everyone and other is not None:
                meant = np.where(other > 0, other, meant)
            truth = sample_open_classes(
                meant, len(schema), self.parser.open_channels, rng, self.sampling, sample.objects
            )
            clicks = first_clicks(truth, rng, self.sampling)
            everyone.append(means_everyone and bool(clicks))
            no_clicks_allowed.append(other is not None and not clicks)
            if other is not None and not means_everyone:
                # Of two people, the clicked ones are meant; without a click, both.
                theirs = np.where(other > 0, other, np.uint8(IGNORE))
                more = first_clicks(theirs, rng, self.sampling) if clicks and rng.random() < 0.5 else []
                if more or not clicks:
                    clicks, truth = clicks + more, np.where(other > 0, other, truth)
            clicks, masks = _accept_some(clicks, truth, channels, rng)
            images.append(to_input(random_colours(sample.image, rng)))
            labels.append(truth.astype(np.int64))
            points.append(clicks)
            accepted.append(masks)
            names.append(sample.name)
            unknown[place, list(sample.unknown)] = True
        return Batch(
            names,
            torch.from_numpy(np.stack(images)).contiguous(memory_format=torch.channels_last),
            torch.from_numpy(np.stack(labels)),
            points,
            torch.from_numpy(np.stack(accepted)),
            no_clicks_allowed,
            everyone,
            unknown,
            int(common.integers(self.sampling.error_rounds + 1)),
            rng,
        )

    def run(self, start: int, stop: int, *, workers: int = 0, pin_memory: bool = False) -> Iterator[Batch]:
        """Yields the batches of the steps from start to stop, made before their use.

        Args:
            start: First step.
            stop: The step after the last.
            workers: Processes that make them; 0: a thread. The batches are the same.
            pin_memory: Whether a GPU shall copy them while it computes; only with workers.

        Raises:
            DataError: If a photo cannot be read; the message names it.
        """
        if workers:
            self._samples = _memory_of(_MEMORY // workers)  # what was read to look at the classes is given up
            loader = DataLoader(
                _Steps(self),
                batch_size=None,
                sampler=range(start, stop),
                num_workers=workers,
                multiprocessing_context="fork",  # copies, whatever else in this process has chosen
                prefetch_factor=_AHEAD,
                pin_memory=pin_memory,
                generator=torch.Generator(),  # or it would draw from the network's
            )
            for made in loader:
                if isinstance(made, DataError):
                    raise made
                yield made
            return
        with ThreadPoolExecutor(1) as pool:
            waiting = [pool.submit(self.make, step) for step in range(start, min(start + _AHEAD, stop))]
            for step in range(start, stop):
                batch = waiting.pop(0).result()
                if step + _AHEAD < stop:
                    waiting.append(pool.submit(self.make, step + _AHEAD))
                yield batch


class _Steps(Dataset["Batch | DataError"]):
    """Batches by their step, for torch's loader: its workers are copies of this process."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> Batch | DataError:
        try:
            return self.batches.make(step)
        except DataError as error:  # raised in a worker, it would come with the worker's traceback for a message
            return error


def _memory_of(size: int) -> LoadingCache[int, Sample]:
    return LoadingCache(size, lambda sample: sample.image.nbytes + sample.labels.nbytes)


def _accept_some(
    clicks: list[Point], truth: NDArray[np.uint8], channels: int, rng: np.random.Generator
) -> tuple[list[Point], NDArray[np.float32]]:
    """Turns some clicked parts into accepted masks, most of which take their clicks with them."""
    masks = np.zeros((channels, truth.shape[0] // OUTPUT_STRIDE, truth.shape[1] // OUTPUT_STRIDE), np.float32)
    if rng.random() > 0.2:
        return clicks, masks
    small = truth[::2, ::2]
    for part in {p.channel for p in clicks}:
        if rng.random() < 0.5:
            masks[part] = small == part
            if rng.random() < 0.7:
                clicks = [p for p in clicks if p.channel != part]
    return clicks, masks


def read_backgrounds(folder: str | Path) -> list[NDArray[np.uint8]]:
    """Reads the photos (.jpg) of a folder.

    Raises:
        DataError: If it has none, or one cannot be read.
    """
    found = []
    for path in sorted(Path(folder).glob("*.jpg")):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise DataError(f"{path} is not a readable image")
        found.append(image.astype(np.uint8, copy=False))
    if not found:
        raise DataError(f"backgrounds: {folder} holds no .jpg; expected a folder of photos without people")
    return found
