"""Drawn people side by side, each of whose pixels is known."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.data.synthetic import draw_person

HEIGHT, WIDTH = 480, 320


@cache
def drawn(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return draw_person(np.random.default_rng(seed), HEIGHT, WIDTH)


def group(*seeds: int, step: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draws people side by side, each before the one at their left.

    Args:
        seeds: One for each person.
        step: Pixels from one to the next; below about 200 they cover each other.

    Returns:
        The photo (H, W, 3), and for each person the ids of what is seen of them, (people, H, W).
    """
    people = [drawn(seed) for seed in seeds]
    width = WIDTH + step * (len(people) - 1)
    image = cv2.resize(people[0][0][:, :20], (width, HEIGHT))  # the wall, without the person
    labels = np.zeros((len(people), HEIGHT, width), np.uint8)
    for number, (photo, ids) in enumerate(people):
        there, body = slice(number * step, number * step + WIDTH), ids > 0
        image[:, there][body] = photo[body]
        labels[:number, :, there][:, body] = 0
        labels[number, :, there][body] = ids[body]
    return image.astype(np.uint8), labels


def middle(part: NDArray[np.bool_]) -> tuple[float, float]:
    distance = cv2.distanceTransform(np.pad(part.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(distance.argmax(), distance.shape)
    return float(column) + 0.5, float(row) + 0.5
