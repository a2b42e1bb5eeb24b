"""From pixels to what the network reads, for training and for serving alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def to_input(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Converts an image (H, W, 3) uint8 RGB to the network's (3, H, W) float32, from -1 for 0 to 1 for 255.

    The answer lies in memory as the image does, channels last, which is what the network wants.
    """
    return (image.astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)).transpose(2, 0, 1)
