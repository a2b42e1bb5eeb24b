"""The most probable channel of each stride-2 pixel, and by how much it leads."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def best_channel(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns the channel with the greatest of (K, h, w) logits at each stride-2 pixel, (h, w) int64.

    By torch, which is faster than numpy at it: where the channels lie side by side in memory, and where they do not.
    """
    found: NDArray[np.int64] = torch.from_numpy(logits).max(0).indices.numpy()
    return found


def two_best(logits: NDArray[np.float32], best: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns the logit of the best channel and the greatest one of the other channels, each (h, w).

    Args:
        logits: (K, h, w).
        best: (h, w), see ``best_channel``.
    """
    first = np.take_along_axis(logits, best[None], 0)[0]
    rest = logits.copy(order="K")
    np.put_along_axis(rest, best[None], -np.inf, 0)
    second: NDArray[np.float32] = torch.from_numpy(rest).max(0).values.numpy()
    return first, second
