"""Several data sets of one schema as one, each with its share of what training sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ihp_backend.data.sample import DataError, DataSet, Sample


class Mixture:
    """The photos of several data sets, one after the other.

    Attributes:
        schema: That of all of them.
        names: Names of the photos.
        repeats: (photos,) how often a pass over as many views as there are photos shows each.
    """

    def __init__(self, sets: Sequence[DataSet], shares: Sequence[float]) -> None:
        """Takes the data sets, and the share of the views that each one gets; they need not add up to one.

        Raises:
            DataError: If their schemas differ, or a set has no share.
        """
        if len(shares) != len(sets) or min(shares) <= 0:
            raise DataError(f"shares are {list(shares)}; expected a number above 0 for each of {len(sets)} data sets")
        for other in sets[1:]:
            if other.schema != sets[0].schema:
                raise DataError(
                    f"the data sets have the classes of {sets[0].schema.name!r} and of {other.schema.name!r}; "
                    "expected the same"
                )
        self.schema = sets[0].schema
        self._places = [(data, i) for data in sets for i in range(len(data))]
        self.names = [data.names[i] for data, i in self._places]
        share = {id(data): part / sum(shares) / len(data) for data, part in zip(sets, shares, strict=True)}
        self.repeats: NDArray[np.float64] = len(self) * np.array([share[id(data)] for data, _ in self._places])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        """Reads a sample by its place."""
        data, place = self._places[index]
        return data[place]
