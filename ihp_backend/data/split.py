"""Which photos are held back from training: by a hash of their number, so that none ever changes side."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from ihp_backend.files import write_whole

logger = logging.getLogger(__name__)

_ONE_IN = 5


class Split:
    """Divides a project's photos: about one in five is held back.

    Of the first two photos each side gets one, whatever their hashes say. Such an exception is written down, for later
    photos must not take it back.

    Args:
        project: Makes the hashes of projects differ.
        path: The file of exceptions; made when there is one.
    """

    def __init__(self, project: str, path: Path) -> None:
        self._project = project
        self._path = path

    def divide(self, numbers: Sequence[int]) -> tuple[list[int], list[int]]:
        """Returns the numbers to train on and those held back, in their order; one alone is trained on.

        Raises:
            OSError: If an exception cannot be written down.
        """
        sides = self._exceptions()
        held_back = [n for n in numbers if sides.get(n, self._hash(n) % _ONE_IN == 0)]
        train = [n for n in numbers if not sides.get(n, self._hash(n) % _ONE_IN == 0)]
        if len(numbers) < 2:
            return list(numbers), []
        if not (train and held_back):
            crowded, side = (train, True) if train else (held_back, False)
            # Any rule would do, if it does not depend on the order.
            moved = (min if side else max)(crowded, key=self._hash)
            write_whole(self._path, json.dumps({str(n): held for n, held in {**sides, moved: side}.items()}))
            return self.divide(numbers)
        return train, held_back

    def _hash(self, number: int) -> int:
        return int.from_bytes(hashlib.blake2b(f"{self._project} {number}".encode(), digest_size=8).digest(), "big")

    def _exceptions(self) -> dict[int, bool]:
        """For each exception, whether it is held back."""
        try:
            return {int(n): bool(side) for n, side in json.loads(self._path.read_text()).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            logger.warning("the exceptions of the split in %s cannot be read: %s", self._path, error)
            return {}
