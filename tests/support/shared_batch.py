"""Trains for three steps on given batches: alone, or under torchrun on this process' share of each.

Run as ``shared_batch.py OUT SP_LOSS``: photos with different numbers of clicks, classes and ignored pixels, so that the
shares of two processes weigh differently.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from drawn import CONFIG, Drawn

from ihp_backend.parts import IGNORE
from ihp_backend.simulation.sampling import SamplingConfig
from ihp_backend.training.batch import Batch
from ihp_backend.training.batches import Batches
from ihp_backend.training.processes import joined_processes
from ihp_backend.training.trainer import Trainer

STEPS, PHOTOS = 3, 3


def part_of(batch: Batch, places: range) -> Batch:
    """The photos of these places, with the randomness that the whole batch has."""
    photos = slice(places.start, places.stop)
    fields = ("names", "images", "labels", "points", "accepted", "no_clicks_allowed", "everyone", "unknown")
    return replace(batch, **{name: getattr(batch, name)[photos] for name in fields}, rng=copy.deepcopy(batch.rng))


def main(out: Path, sp_loss: str) -> None:
    """Trains; see the module."""
    # Norms keep their statistics: on a CPU, each process would take those of its share.
    config = replace(
        CONFIG,
        batch=PHOTOS,
        steps=STEPS,
        validate_every=STEPS,
        frozen_norms=True,
        sp_loss=sp_loss,
        keep=2.0,
        everyone=0.0,
        sampling=SamplingConfig(error_rounds=0),
    )
    with joined_processes("cpu") as (processes, device):
        torch.set_num_threads(1)
        trainer = Trainer(config, Drawn(), out, device=device, processes=processes)
        whole = Batches(
            Drawn(), config.parser, config.sampling, size=PHOTOS, seed=7, area=lambda step: config.parser.area
        )
        batches = [whole.make(step) for step in range(STEPS)]
        for batch in batches:
            batch.labels[0, : int(np.ceil(batch.labels.shape[1] * 0.6))] = IGNORE
        shares = [part_of(batch, processes.share(PHOTOS)) for batch in batches]
        trainer.batches.run = lambda *_, **__: iter(shares)  # type: ignore[method-assign]
        trainer.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
