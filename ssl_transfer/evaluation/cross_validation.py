"""Probes by cross-validation: which held-out images they get right, and how that grows with the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_transfer.evaluation.measurements import Point
from ssl_transfer.evaluation.probes import knn_scores, select_logistic

Probe = Callable[[Tensor, Tensor, Tensor, int], Tensor]  # features, targets, features asked about, K: scores (Q, K)


def linear_probe(features: Tensor, targets: Tensor, asked: Tensor, classes: int) -> Tensor:
    """Logits `(Q, K)` of a logistic regression whose penalty is chosen by cross-validation among the labelled."""
    head, _ = select_logistic((features, targets), None, classes)
    return head(asked)


def knn_probe(features: Tensor, targets: Tensor, asked: Tensor, classes: int) -> Tensor:
    """Scores `(Q, K)` of nearest neighbours: 20, or fewer where a class has few images."""
    least = int(torch.bincount(targets).clamp(min=1).float().mean())
    return knn_scores(features, targets, asked, classes, k=max(1, min(20, least)))


def held_out_folds(fold: NDArray[np.int64]) -> list[int]:
    """The folds that are held out in turn: rows of fold −1 never are, and are learned from in every one.

    >>> held_out_folds(np.array([1, -1, 0, 1]))
    [0, 1]
    """
    return [int(one) for one in np.unique(fold) if one >= 0]


def held_out_right(probe: Probe, features: Tensor, targets: Tensor, classes: int, fold: NDArray[np.int64]) -> Tensor:
    """1 for each image that a probe fitted on the other folds gets right, else 0, `(N,)` int64 on the CPU.

    features `(N, D)`, targets `(N,)`, fold `(N,)`, −1 for images that are never held out (and get 0).
    """
    right = torch.zeros(len(targets), dtype=torch.int64)
    for held_out in held_out_folds(fold):
        inside, outside = (torch.from_numpy(rows).to(features.device) for rows in (fold != held_out, fold == held_out))
        scores = probe(features[inside], targets[inside], features[outside], classes)
        right[outside.cpu()] = (scores.argmax(1) == targets[outside]).long().cpu()
    return right


def learning_curve(
    probe: Probe,
    name: str,
    features: Tensor,
    targets: Tensor,
    classes: int,
    fold: NDArray[np.int64],
    budgets: Sequence[int],
    seed: int = 0,
) -> list[Point]:
    """Accuracy on held-out images of a probe on so many labelled images a class of the other folds.

    A larger budget holds a smaller one; a class that has fewer gives all it has. The standard error is the larger of
    those by images and by folds.
    """
    shuffled = torch.from_numpy(np.random.default_rng(seed).permutation(len(targets))).to(targets.device)
    points = []
    for budget in budgets:
        shares, count, counts = [], 0, []
        for held_out in held_out_folds(fold):
            inside = shuffled[torch.from_numpy(fold != held_out).to(targets.device)[shuffled]]
            taught = torch.cat([inside[targets[inside] == k][:budget] for k in range(classes)])
            outside = torch.from_numpy(fold == held_out).to(targets.device)
            scores = probe(features[taught], targets[taught], features[outside], classes)
            shares.append(float((scores.argmax(1) == targets[outside]).float().mean()))
            count += int(outside.sum())
            counts.append(len(taught) / classes)
        mean = float(np.mean(shares))
        by_folds = float(np.std(shares, ddof=1)) / len(shares) ** 0.5 if len(shares) > 1 else 0.0
        error = max(by_folds, (mean * (1 - mean) / count) ** 0.5)
        points.append(Point(name, float(np.mean(counts)), mean, error))
    return points


def curve_budgets(most: float) -> list[int]:
    """Labels a class to draw a curve by: 1, 2, 5, 10, … below `most`, and that.

    >>> curve_budgets(33.4)
    [1, 2, 5, 10, 20, 33]
    """
    steps = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
    return [*[step for step in steps if step < most * 0.8], max(1, int(most))]
