"""Which channel is the most probable one, and by how much: as numpy would say it, the slow way."""

from __future__ import annotations

import numpy as np
import pytest

from ihp_backend.inference.logits import best_channel, two_best


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_the_best_and_the_second_best(last: bool) -> None:
    logits = np.random.default_rng(0).normal(size=(6, 9, 7)).astype(np.float32)
    if last:  # in memory, as the network leaves them
        logits = np.ascontiguousarray(logits.transpose(1, 2, 0)).transpose(2, 0, 1)
    kept = logits.copy()
    best = best_channel(logits)
    first, second = two_best(logits, best)
    ordered = np.sort(kept, axis=0)
    assert np.array_equal(best, kept.argmax(0))
    assert np.array_equal(first, ordered[-1])
    assert np.array_equal(second, ordered[-2])
    assert np.array_equal(logits, kept), "they are read, not changed"
