"""How much the network's features at one place are like those at another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Cell = tuple[int, int]
"""Row and column of a stride-2 pixel."""


def unit_features(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the features (D, h, w) of a view, each pixel's of length 1."""
    features: NDArray[np.float32] = embedding / (np.linalg.norm(embedding, axis=0, keepdims=True) + 1e-6)
    return features


def feature_cell(features: NDArray[np.float32], cell: Cell, shape: tuple[int, int]) -> Cell:
    """Returns where the features (D, h, w) of a stride-2 pixel of a grid of this shape are."""
    (row, column), (rows, columns) = cell, features.shape[1:]
    return min(row * rows // shape[0], rows - 1), min(column * columns // shape[1], columns - 1)


def likeness(features: NDArray[np.float32], cell: Cell) -> NDArray[np.float32]:
    """Returns the cosine, -1 to 1, of each pixel's unit features (D, h, w) and those at one pixel of theirs; (h, w)."""
    found: NDArray[np.float32] = np.tensordot(features[:, cell[0], cell[1]], features, 1)
    return found
