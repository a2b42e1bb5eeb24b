"""Without clicks, the likeliest class is not the best answer for mIoU: rare classes are worth more than that.

A bias for each class, added to the logits of photos on which nothing is clicked, is chosen on training photos: logit
adjustment (Menon et al., ICLR 2021), with the measure itself in place of the classes' frequencies.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ihp_backend.data.sample import DataSet
from ihp_backend.evaluation.metrics import confusion, mean_iou
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.parser import HumanParser
from ihp_backend.parts import IGNORE

_PIXELS = 4000
"""Of each photo, so many pixels are looked at."""
_STEPS = (1.0, 0.5, 0.5, 0.25)
_CAUTION = 0.75
"""Of what is best for the training photos, so much is taken: other photos are not quite alike."""


def calibrated(parser: HumanParser, data: DataSet, *, device: str = "cpu", quiet: bool = False) -> HumanParser:
    """Returns a copy whose ``prior`` makes the parse without clicks best by mIoU.

    Args:
        parser: The network.
        data: Training photos, of the parser's schema.
        device: A torch device.
        quiet: No progress bar.
    """
    parser = copy.deepcopy(parser)
    parser.prior.zero_()
    logits, labels = _pixels(Predictor(parser, device=device), data, quiet=quiet)
    found = best_prior(logits, labels)
    parser.prior[: len(found)] = torch.from_numpy(_CAUTION * found)
    return parser


def best_prior(logits: NDArray[np.float32], labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Climbs, one class at a time, to the bias with the best mIoU.

    Args:
        logits: (pixels, K).
        labels: (pixels,) true ids.

    Returns:
        (K,), zero where nothing is gained.
    """
    count = logits.shape[1]
    prior = np.zeros(count, np.float32)

    def miou(bias: NDArray[np.float32]) -> float:
        predicted = (logits + bias).argmax(1).astype(np.uint8)
        return mean_iou(confusion(labels[None], predicted[None], count))

    best = miou(prior)
    for step in _STEPS:
        for channel in range(count):
            for change in (step, -step):
                tried = prior.copy()
                tried[channel] += change
                score = miou(tried)
                if score > best + 1e-4:
                    best, prior = score, tried
    return prior


def _pixels(predictor: Predictor, data: DataSet, *, quiet: bool) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Logits and true ids of some pixels of each photo, at the centres of the logits' stride-2 pixels."""
    rng = np.random.default_rng(0)
    logits, labels = [], []
    count = len(data.schema)
    for index in tqdm(range(len(data)), desc="calibrate", unit="photo", disable=quiet):
        sample = data[index]
        parse = predictor.parse(sample.image)
        _, height, width = parse.logits.shape
        rows, columns = (v.ravel() for v in np.mgrid[:height, :width])
        x, y = parse.view.out_of_grid(columns + 0.5, rows + 0.5)
        truth = sample.labels[np.asarray(y).astype(int), np.asarray(x).astype(int)]
        chosen = np.flatnonzero(truth != IGNORE)
        chosen = rng.permutation(chosen)[:_PIXELS]
        logits.append(parse.logits[:count, rows[chosen], columns[chosen]].T)
        labels.append(truth[chosen])
    return np.concatenate(logits), np.concatenate(labels)
