"""Which photos are held back from training: by a hash of their number, so that none ever changes side."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from ihp_backend.files import write_whole

logger = logging.getLogger(__name__)

_ONE_IN = 5


class Split:
    """Divides a project's photos: about one in five is held back.

    Of the first two photos each side gets one, whatever their hashes say. Sides are written down: later photos must not
    take such an exception back, and where one side's photos are all gone, only a new photo may take their place.

    Args:
        project: Makes the hashes of projects differ.
        path: The file of sides; made when photos are divided.
    """

    def __init__(self, project: str, path: Path) -> None:
        self._project = project
        self._path = path

    def divide(self, numbers: Sequence[int]) -> tuple[list[int], list[int]]:
        """Returns the numbers to train on and those held back, in their order.

        One alone is trained on; nor is a side filled by photos that were on the other one before.

        Raises:
            OSError: If the sides cannot be written down.
        """
        if len(numbers) < 2:
            return list(numbers), []
        known = _read_sides(self._path)
        sides = {n: known.get(n, self._hash(n) % _ONE_IN == 0) for n in numbers}
        new = [n for n in numbers if n not in known]
        if len(set(sides.values())) == 1 and new:
            is_held_back = sides[new[0]]
            # Any rule would do, if it does not depend on the order.
            moved = (max if is_held_back else min)(new, key=self._hash)
            sides[moved] = not is_held_back
        if new and len(set(sides.values())) == 2:
            self._write({**known, **sides})
        return [n for n in numbers if not sides[n]], [n for n in numbers if sides[n]]

    def adopt(self, other: Path) -> None:
        """Takes over the sides of another record, for photos whose sides this one does not know.

        Raises:
            OSError: If the sides cannot be written down.
        """
        theirs, known = _read_sides(other), _read_sides(self._path)
        if theirs.keys() - known.keys():
            self._write({**theirs, **known})

    def _hash(self, number: int) -> int:
        return int.from_bytes(hashlib.blake2b(f"{self._project} {number}".encode(), digest_size=8).digest(), "big")

    def _write(self, sides: Mapping[int, bool]) -> None:
        write_whole(self._path, json.dumps({str(n): side for n, side in sides.items()}))


def _read_sides(path: Path) -> dict[int, bool]:
    """For each photo that was divided before, whether it is held back."""
    try:
        return {int(n): bool(side) for n, side in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        logger.warning("the splits of photos in %s cannot be read: %s", path, error)
        return {}
