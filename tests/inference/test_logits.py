"""Which channel is the most probable one: as numpy would say it, the slow way."""

from __future__ import annotations

import numpy as np
import pytest

from ihp_backend.inference.logits import best_channel


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_the_best_channel(last: bool) -> None:
    logits = np.random.default_rng(0).normal(size=(6, 9, 7)).astype(np.float32)
    if last:  # in memory, as the network leaves them
        logits = np.ascontiguousarray(logits.transpose(1, 2, 0)).transpose(2, 0, 1)
    kept = logits.copy()
    assert np.array_equal(best_channel(logits), kept.argmax(0))
    assert np.array_equal(logits, kept), "they are read, not changed"
