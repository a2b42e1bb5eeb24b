"""Several data sets as one: everything of them is there, and training sees each as often as its share says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ihp_backend.data.mixture import Mixture
from ihp_backend.data.sample import DataError, Sample
from ihp_backend.network.parser import ParserConfig
from ihp_backend.parts import CIHP, LIP, Schema
from ihp_backend.simulation.sampling import SamplingConfig
from ihp_backend.training.batches import Batches


class Numbered:
    def __init__(self, first: int, count: int, schema: Schema = LIP) -> None:
        self.schema = schema
        self.names = [str(first + i) for i in range(count)]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.names[index], np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8))


def test_all_photos_follow_each_other() -> None:
    mixture = Mixture([Numbered(0, 3), Numbered(10, 2)], [1, 1])
    assert [mixture[i].name for i in range(len(mixture))] == list(mixture.names) == ["0", "1", "2", "10", "11"]


@pytest.mark.parametrize(("sizes", "shares"), [((40, 8), (0.5, 0.5)), ((8, 40), (3, 1)), ((30, 30), (0.9, 0.1))])
def test_training_sees_each_by_its_share(sizes: tuple[int, int], shares: tuple[float, float]) -> None:
    mixture = Mixture([Numbered(0, sizes[0]), Numbered(1000, sizes[1])], shares)
    batches = Batches(mixture, ParserConfig(), SamplingConfig(), size=4, seed=0, area=lambda step: 1024)
    seen = Counter(int(mixture.names[i]) >= 1000 for step in range(300) for i in batches.indices(step))
    assert seen[False] / seen.total() == pytest.approx(shares[0] / sum(shares), abs=0.03)


@pytest.mark.parametrize("shares", [[1.0], [1.0, 0.0], [0.5, -0.1]])
def test_shares_that_cannot_be_are_refused(shares: list[float]) -> None:
    with pytest.raises(DataError, match="expected a number above 0 for each of 2"):
        Mixture([Numbered(0, 3), Numbered(10, 2)], shares)


def test_other_classes_are_refused() -> None:
    with pytest.raises(DataError, match="'lip' and of 'cihp'"):
        Mixture([Numbered(0, 3), Numbered(10, 2, CIHP)], [1, 1])
