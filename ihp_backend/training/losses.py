"""Losses: how wrong the logits are, and how well the features under the clicks tell the parts apart.

Base losses: cross-entropy, or normalised focal (Sofiiuk et al., 2021), and Lovasz-softmax (Berman et al., CVPR
2018). The semantic-perceiving loss is named in "Clicking Matters" (2021) but not defined in its abstract: the two
readings here are ours.

Each is a sum over what is counted, divided by the count; where several processes train together, by the mean of their
counts, so that the mean of their losses is that of the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ihp_backend.network.click_maps import Point
from ihp_backend.network.decoder import prototype_similarity
from ihp_backend.network.parser import ParserOutput
from ihp_backend.parts import IGNORE
from ihp_backend.training.config import TrainConfig
from ihp_backend.training.processes import mean_over_processes

TEMPERATURE = 10.0


def training_loss(
    config: TrainConfig,
    output: ParserOutput,
    labels: Tensor,
    maps: Tensor,
    points: Sequence[Sequence[Point]],
    class_weights: Tensor | None,
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a training step: half base loss, half Lovasz-softmax, and the semantic-perceiving loss by its weight.

    Args:
        config: Which losses.
        output: Of the network, float32: logits (N, K, h, w) and the embedding (N, D, h/2, w/2).
        labels: (N, h, w) int64; 255 is ignored.
        maps: (N, K, 2h, 2w) localization maps that the network saw.
        points: For each image its clicks, in pixels of the input.
        class_weights: (K,) of cross-entropy.

    Returns:
        The loss, and the value of each of its terms by name.
    """
    if config.base_loss == "ce":
        base = cross_entropy(output.logits, labels, class_weights)
    else:
        base = normalised_focal(output.logits, labels)
    sparse = slice(None, None, config.lovasz_stride)
    terms = {
        config.base_loss: base,
        "lovasz": lovasz_softmax(output.logits[..., sparse, sparse], labels[:, sparse, sparse]),
    }
    total = 0.5 * base + 0.5 * terms["lovasz"]
    if config.sp_loss != "none":
        if config.sp_loss == "pairs":
            terms["sp"] = sp_pairs(output.embedding, points, 4)
        else:
            similarity = prototype_similarity(output.embedding, maps)
            terms["sp"] = sp_prototypes(similarity, maps.amax((2, 3)) > 0, labels[:, ::2, ::2])
        total = total + config.sp_weight * terms["sp"]
    return total, {name: term.item() for name, term in terms.items()}


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of logits (N, K, h, w) against labels (N, h, w) int64, 255 ignored; zero if all are.

    ``weights`` (K,) make some classes count more; the mean is weighted, too.
    """
    valid = labels != IGNORE
    counted = valid.sum() if weights is None else weights[labels[valid]].sum()
    total = F.cross_entropy(logits, labels, weights, ignore_index=IGNORE, reduction="sum")
    return total / mean_over_processes(counted).clamp(min=1)


def normalised_focal(logits: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss whose weights sum to the number of pixels of each image; the normaliser carries no gradient."""
    entropy = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    valid = (labels != IGNORE).float()
    weight = (1 - torch.exp(-entropy)).clamp(min=0) ** gamma * valid
    total = weight.sum((1, 2), keepdim=True).detach().clamp(min=1e-6)
    weight = weight * (valid.sum((1, 2), keepdim=True) / total)
    return (weight * entropy).sum() / mean_over_processes(valid.sum()).clamp(min=1)


def keep_loss(logits: Tensor, known: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How far the logits of the first classes are from those that were known, where no label contradicts them.

    Learning without forgetting (Li and Hoiem, ECCV 2016): Kullback-Leibler divergence between the probabilities of
    these classes alone, so what a project's own labels take is nobody's loss.

    Args:
        logits: (N, K, h, w).
        known: (N, K, h, w), those of the weights that the training started from, for the same clicks.
        labels: (N, h, w) int64; 255 is ignored.
        classes: How many of the channels the start weights know as classes.

    Returns:
        The mean over the pixels whose label is one of these classes only if it is the likeliest of ``known``.
    """
    before, now = known[:, :classes].log_softmax(1), logits[:, :classes].log_softmax(1)
    agreed = (labels >= classes) | (before.argmax(1) == labels)
    divergence = (before.exp() * (before - now)).sum(1)
    return (divergence * agreed).sum() / mean_over_processes(agreed.sum()).clamp(min=1)


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Lovasz extension of the Jaccard loss, mean over the classes present in each image.

    Args:
        logits: (N, K, h, w).
        labels: (N, h, w) int64; 255 is ignored.
    """
    probabilities = logits.softmax(1)
    rows, truths = [], []
    for image, truth in zip(probabilities.flatten(2), labels.flatten(1), strict=True):
        counts = torch.bincount(truth[truth != IGNORE], minlength=logits.shape[1])
        present = torch.nonzero(counts[: logits.shape[1]])[:, 0]
        valid = truth != IGNORE
        foreground = (truth[None] == present[:, None]).float()
        rows.append((foreground - image[present]).abs() * valid)  # an ignored pixel has no error
        truths.append(foreground)
    errors, foreground = torch.cat(rows), torch.cat(truths)
    count = mean_over_processes(torch.tensor(len(errors), device=logits.device))
    if not len(errors):
        return logits.sum() * 0
    errors, order = errors.sort(dim=1, descending=True)
    foreground = foreground.gather(1, order)
    total = foreground.sum(1, keepdim=True)
    jaccard = 1 - (total - foreground.cumsum(1)) / (total + (1 - foreground).cumsum(1))
    gradient = torch.diff(jaccard, dim=1, prepend=torch.zeros_like(total))
    return (errors * gradient).sum(1).sum() / count


def sp_pairs(embedding: Tensor, points: Sequence[Sequence[Point]], stride: int) -> Tensor:
    """Semantic-perceiving loss, reading 1: clicked pixels of one part look alike, of two parts do not.

    Binary cross-entropy of sigmoid(t cos(f_i, f_j)) against "same part" over all pairs of positive clicks of an image.

    Args:
        embedding: (N, D, h, w).
        points: For each image its clicks, in pixels of the input.
        stride: Input pixels for each pixel of the embedding.
    """
    losses = []
    for features, clicks in zip(F.normalize(embedding, dim=1), points, strict=True):
        clicks = [p for p in clicks if p.is_positive]
        if len(clicks) < 2:
            continue
        rows = torch.tensor([int(p.y) // stride for p in clicks], device=embedding.device)
        columns = torch.tensor([int(p.x) // stride for p in clicks], device=embedding.device)
        parts = torch.tensor([p.channel for p in clicks], device=embedding.device)
        rows, columns = rows.clamp(0, features.shape[1] - 1), columns.clamp(0, features.shape[2] - 1)
        vectors = features[:, rows, columns]
        i, j = torch.triu_indices(len(clicks), len(clicks), 1, device=embedding.device)
        cosine = (vectors.T @ vectors)[i, j]
        same = (parts[i] == parts[j]).float()
        losses.append(F.binary_cross_entropy_with_logits(TEMPERATURE * cosine, same))
    count = mean_over_processes(torch.tensor(len(losses), device=embedding.device))
    return torch.stack(losses).sum() / count if losses else embedding.sum() * 0


def sp_prototypes(similarity: Tensor, clicked: Tensor, labels: Tensor) -> Tensor:
    """Semantic-perceiving loss, reading 2: every pixel is nearest to the prototype of its own part.

    Cross-entropy over t cos(f_x, m_c), on pixels of clicked parts, among the clicked parts.

    Args:
        similarity: (N, K, h, w) cosine to each part's prototype.
        clicked: (N, K) bool, which parts have a positive click.
        labels: (N, h, w) int64; 255 is ignored.
    """
    logits = (TEMPERATURE * similarity).masked_fill(~clicked[:, :, None, None], -1e4)
    known = labels.clamp(max=similarity.shape[1] - 1)
    counts = clicked.gather(1, known.flatten(1)).view_as(labels) & (labels != IGNORE)
    return cross_entropy(logits, labels.masked_fill(~counts, IGNORE))
