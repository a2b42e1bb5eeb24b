"""Prototypes, by hand."""

from __future__ import annotations

import torch

from ihp_backend.network.decoder import prototype_similarity


def test_prototypes_by_hand() -> None:
    """Two kinds of features, left and right: a click on the left is like the left, unlike the right."""
    features = torch.zeros(1, 2, 4, 4)
    features[0, 0, :, :2] = 3
    features[0, 1, :, 2:] = 5
    maps = torch.zeros(1, 3, 16, 16)
    maps[0, 1, 5, 2] = 1
    maps[0, 2, 5, 2] = -1  # a negative click is no example
    similarity = prototype_similarity(features, maps)
    assert torch.allclose(similarity[0, 1, :, :2], torch.ones(4, 2))
    assert torch.allclose(similarity[0, 1, :, 2:], torch.zeros(4, 2))
    assert not similarity[0, [0, 2]].any()
