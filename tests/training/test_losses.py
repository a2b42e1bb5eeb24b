"""The losses, against numbers worked out by hand and properties that define them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from ihp_backend.network.click_maps import Point
from ihp_backend.parts import IGNORE
from ihp_backend.training.losses import (
    TEMPERATURE,
    cross_entropy,
    keep_loss,
    lovasz_softmax,
    normalised_focal,
    sp_pairs,
    sp_prototypes,
)

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
LOSSES: list[Loss] = [cross_entropy, normalised_focal, lovasz_softmax]


def certain(labels: torch.Tensor, classes: int = 4, by: float = 50.0) -> torch.Tensor:
    """Logits that say exactly these labels."""
    known = labels.clamp(max=classes - 1)
    return torch.nn.functional.one_hot(known, classes).permute(0, 3, 1, 2).float() * by


@pytest.mark.parametrize("loss", LOSSES)
def test_right_is_free_and_wrong_is_not(loss: Loss) -> None:
    labels = torch.randint(0, 4, (2, 6, 5))
    assert loss(certain(labels), labels).item() == pytest.approx(0, abs=1e-4)
    assert loss(certain((labels + 1) % 4), labels).item() > 0.9


@pytest.mark.parametrize("loss", LOSSES)
def test_ignored_pixels_do_not_count(loss: Loss) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (1, 6, 6))
    labels[0, :2] = IGNORE
    logits = torch.randn(1, 4, 6, 6)
    other = logits.clone()
    other[:, :, :2] += torch.randn(1, 4, 2, 6) * 5
    assert loss(logits, labels).item() == pytest.approx(loss(other, labels).item(), rel=1e-5)
    logits.requires_grad_()
    nothing = loss(logits, torch.full((1, 6, 6), IGNORE))
    nothing.backward()
    assert nothing.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_cross_entropy_by_hand() -> None:
    logits = torch.log(torch.tensor([0.5, 0.25, 0.25])).view(1, 3, 1, 1)
    assert cross_entropy(logits, torch.tensor([[[1]]])).item() == pytest.approx(math.log(4))


def test_focal_weights_sum_to_the_pixels() -> None:
    """Equal pixels get equal weights of 1: focal is cross-entropy there."""
    logits = torch.zeros(1, 3, 4, 4)
    labels = torch.ones(1, 4, 4, dtype=torch.long)
    assert normalised_focal(logits, labels).item() == pytest.approx(math.log(3), rel=1e-5)


def test_focal_looks_at_what_is_wrong() -> None:
    labels = torch.zeros(1, 1, 2, dtype=torch.long)
    logits = torch.tensor([[[[4.0, 0.0]], [[0.0, 1.0]]]])  # right, and wrong
    assert normalised_focal(logits, labels) > cross_entropy(logits, labels)


def test_lovasz_of_hard_predictions_is_the_mean_jaccard_loss() -> None:
    """The extension equals the set function at its corners: 1 - IoU of each class present."""
    labels = torch.tensor([[[0, 0, 0, 1, 1, 2]]])
    said = torch.tensor([[[0, 0, 1, 1, 2, 2]]])
    expected = ((1 - 2 / 3) + (1 - 1 / 3) + (1 - 1 / 2)) / 3
    assert lovasz_softmax(certain(said, 3), labels).item() == pytest.approx(expected, abs=1e-4)


def test_lovasz_averages_over_the_classes_of_each_image() -> None:
    labels = torch.tensor([[[0, 0]], [[1, 2]]])
    said = torch.tensor([[[0, 0]], [[1, 1]]])
    # Image one: class 0 right. Image two: class 1 at IoU 1/2, class 2 at 0. Three pairs in all.
    assert lovasz_softmax(certain(said, 3), labels).item() == pytest.approx((0 + 0.5 + 1) / 3, abs=1e-4)


def test_pairs_by_hand() -> None:
    """Two clicks of one part on equal features, one of another part on opposite ones."""
    embedding = torch.zeros(1, 2, 1, 3)
    embedding[0, 0] = torch.tensor([2.0, 5.0, -1.0])
    clicks = [Point(1, 1, 4), Point(5, 1, 4), Point(9, 1, 7), Point(9, 1, 4, is_positive=False)]
    right = -math.log(1 / (1 + math.exp(-TEMPERATURE)))
    assert sp_pairs(embedding, [clicks], 4).item() == pytest.approx(right, abs=1e-5)
    mixed = [Point(1, 1, 4), Point(5, 1, 7)]
    assert sp_pairs(embedding, [mixed], 4).item() == pytest.approx(TEMPERATURE, rel=1e-2)
    assert sp_pairs(embedding, [[Point(1, 1, 4)]], 4).item() == 0


def test_prototypes_by_hand() -> None:
    similarity = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [0.5, 0.5]]).view(1, 3, 1, 2)
    clicked = torch.tensor([[True, True, False]])
    labels = torch.tensor([[[0, 1]]])
    right = math.log(1 + math.exp(-2 * TEMPERATURE))
    assert sp_prototypes(similarity, clicked, labels).item() == pytest.approx(right, abs=1e-6)
    assert sp_prototypes(similarity, clicked, 1 - labels).item() == pytest.approx(2 * TEMPERATURE, rel=1e-3)
    # Pixels of parts that nobody clicked do not count.
    assert sp_prototypes(similarity, clicked, torch.tensor([[[2, 1]]])).item() == pytest.approx(right, abs=1e-6)
    assert sp_prototypes(similarity, clicked, torch.full((1, 1, 2), IGNORE)).item() == 0


def test_weighted_cross_entropy_is_the_weighted_mean() -> None:
    logits = torch.tensor([[[[2.0, 0.0]], [[0.0, 0.0]]]])  # one pixel that is right, one that is undecided
    labels, weights = torch.tensor([[[0, 1]]]), torch.tensor([1.0, 3.0])
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")[0, 0]
    expected = (1 * each[0] + 3 * each[1]) / 4
    assert torch.allclose(cross_entropy(logits, labels, weights), expected)


def test_nothing_is_lost_by_what_stays_or_is_contradicted() -> None:
    known = torch.randn(1, 5, 2, 2, generator=torch.Generator().manual_seed(0))
    likeliest = known[:, :4].argmax(1)
    assert keep_loss(known, known, likeliest, 4).item() == pytest.approx(0, abs=1e-6)
    others = known.roll(1, 1)
    assert keep_loss(others, known, (likeliest + 1) % 4, 4).item() == 0, "annotators say otherwise everywhere"
    own = known.clone()
    own[:, 4] += 50  # a label of one's own takes every pixel: the classes among themselves are as before
    assert keep_loss(own, known, torch.full((1, 2, 2), 4), 4).item() == pytest.approx(0, abs=1e-6)


def test_what_changes_is_the_divergence_by_hand() -> None:
    known = torch.tensor([math.log(0.8), math.log(0.2)]).view(1, 2, 1, 1)
    now = torch.zeros(1, 2, 1, 1)
    expected = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    for label in (0, 255):
        assert keep_loss(now, known, torch.full((1, 1, 1), label), 2).item() == pytest.approx(expected, rel=1e-5)
