"""Several processes that train one network together, as torchrun starts them: each has its share of every batch.

The network is torch's DistributedDataParallel: it takes the mean of the gradients. The first process alone writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

_LONGEST_WAIT = timedelta(hours=2)
"""For the first process, while it validates."""

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Who trains together.

    Attributes:
        rank: Which of them this process is, from 0.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes, validates and talks."""
        return self.rank == 0

    def share(self, size: int) -> range:
        """Returns which places of a batch of ``size`` photos are this process'."""
        return range(size * self.rank // self.count, size * (self.rank + 1) // self.count)

    def from_first(self, make: Callable[[], T]) -> T:
        """Returns what the first process made; nobody else makes it. All have to ask."""
        made: list[Any] = [make() if self.is_first else None]
        if self.count > 1:
            distributed.broadcast_object_list(made)
        found: T = made[0]
        return found

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Returns the mean over the processes of values that all of them have. All have to ask."""
        if self.count == 1:
            return dict(values)
        names = sorted(values)
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        means = mean_over_processes(torch.tensor([values[name] for name in names], device=device))
        return dict(zip(names, means.tolist(), strict=True))

    def joined(self, module: nn.Module) -> nn.Module:
        """Returns a module whose gradients are the means over the processes, and whose weights are the first one's.

        On a GPU batch norms take their statistics from all processes; torch has that for GPUs only. On a CPU they
        normalise each process' share by itself, and keep the first one's.
        """
        if self.count == 1:
            return module
        if next(module.parameters()).is_cuda:
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        # Buffers are not sent around: on a GPU they are the same, and the features are computed before `forward`.
        return DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=True)


def mean_over_processes(value: Tensor) -> Tensor:
    """Returns the mean of a tensor over the processes that train together, without gradient; alone, the tensor.

    A loss that divides its sum by the mean of the counts is right in the mean over the processes, as its gradients
    are, however unequal their shares.
    """
    if not distributed.is_initialized():
        return value
    total = value.detach().clone().float()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


@contextmanager
def joined_processes(device: str) -> Iterator[tuple[Processes, str]]:
    """Joins the processes that torchrun started, for the block. Without torchrun, this process is alone.

    Args:
        device: ``cpu`` or ``cuda``.

    Yields:
        Who trains together, and the device of this process.
    """
    count = int(os.environ.get("WORLD_SIZE", "1")) if distributed.is_torchelastic_launched() else 1
    if count == 1:
        yield Processes(), device
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    backend = "nccl" if device.startswith("cuda") else "gloo"
    distributed.init_process_group(backend, timeout=_LONGEST_WAIT)
    try:
        yield Processes(distributed.get_rank(), count), device
    finally:
        distributed.destroy_process_group()
