"""Linear heads on frozen features for other targets than one class an image: several labels, or a number."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_transfer.evaluation.probes import POLISH, ROUGH, LinearHead, Rotated, descend

NUMBERS_GRID = tuple(10.0**power for power in range(2, -7, -1))  # each costs next to nothing


def solve_binary_logistic(
    features: Tensor | Rotated,
    labels: Tensor,
    l2: float = 1e-4,
    weights: Tensor | None = None,
    start: LinearHead | None = None,
    steps: int = 200,
) -> LinearHead:
    """A binary logistic regression for each label, all at once by full-batch L-BFGS on standardised features.

    Minimises the sum over the labels of mean binary cross-entropy + l2/2 · ‖w‖², which are L problems of their own
    that share their passes over the features. Returns the head for unscaled features.

    Args:
        features: `(N, D)`, or once rotated for many solutions.
        labels: `(N, L)`, 1 where an image has the label and 0 where not.
        l2: the penalty of every label.
        weights: of the images that have a label against those that have not, `(L,)`; all 1 by default.
        start: where to begin.
        steps: of L-BFGS, at the most.

    >>> head = solve_binary_logistic(torch.tensor([[-1.0], [1.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), l2=0.1)
    >>> (head(torch.tensor([[2.0]])) > 0).tolist()
    [[True, False]]
    """
    rotated = features if isinstance(features, Rotated) else Rotated.of(features)
    count = labels.shape[1]
    with torch.inference_mode(False):
        y = labels.clone().float()
        given = None if weights is None else weights.clone().to(y)

    def cost(logits: Tensor) -> Tensor:
        return count * F.binary_cross_entropy_with_logits(logits, y, pos_weight=given)

    return descend(rotated, count, l2, start, steps, torch.sigmoid, cost)


def select_binary_logistic(
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor] | None,
    grid: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4),
    weights: Tensor | None = None,
) -> tuple[LinearHead, float]:
    """Binary logistic regressions with the l2 of `grid` whose cross-entropy on held-out features is the least.

    train, validation: `(features, labels)`. Without a validation set l2 is chosen by three-fold cross-validation on
    `train`. Returns the head and its l2, which is one for all labels.
    """
    ordered = sorted(grid, reverse=True)
    if validation is not None and len(validation[0]):
        losses = _losses(train, validation, ordered, weights)
    else:
        losses = torch.zeros(len(ordered), dtype=torch.double)
        fold = torch.arange(len(train[0]), device=train[0].device) % 3
        for held_out in range(min(3, len(fold)) if len(fold) > 1 else 0):
            inside, outside = ((part[keep] for part in train) for keep in (fold != held_out, fold == held_out))
            losses += _losses(tuple(inside), tuple(outside), ordered, weights)  # type: ignore[arg-type]
    l2 = ordered[int(losses.argmin())]
    return solve_binary_logistic(*train, l2, weights), l2


def _losses(
    train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], grid: Sequence[float], weights: Tensor | None
) -> Tensor:
    """The summed held-out cross-entropy of each l2 of a falling grid, `(G,)`."""
    rotated, head, losses = Rotated.of(train[0]), None, []
    for l2 in grid:
        head = solve_binary_logistic(
            rotated, train[1], l2, weights, start=head, steps=POLISH if head is None else ROUGH
        )
        pos_weight = None if weights is None else weights.to(held_out[0])
        logits, labels = head(held_out[0]), held_out[1].float()
        losses.append(F.binary_cross_entropy_with_logits(logits, labels, pos_weight=pos_weight, reduction="sum"))
    return torch.stack(losses).double().cpu()


def solve_regression(features: Tensor | Rotated, values: Tensor, l2: float = 1e-3) -> LinearHead:
    """Ridge regression in closed form: the head `(1, D)` for unscaled features.

    Minimises ‖x w + b − y‖²/N + l2 · ‖w‖² over standardised features; in their principal axes each coordinate is
    solved by itself. features `(N, D)`, values `(N,)`.

    >>> head = solve_regression(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([1.0, 3.0, 5.0]), l2=0.0)
    >>> head(torch.tensor([[3.0]])).round().tolist()
    [[7.0]]
    """
    rotated = features if isinstance(features, Rotated) else Rotated.of(features)
    moments, mean = _moments(rotated, values)
    weight = moments / (rotated.variances.double() + l2)
    return rotated.head(weight[None].float(), mean[None].float())


def select_regression(
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor] | None,
    grid: Sequence[float] = NUMBERS_GRID,
) -> tuple[LinearHead, float]:
    """Ridge regression with the l2 of `grid` whose squared error on held-out features is the least.

    train, validation: `(features, values)`. Without a validation set each training image is held out in turn, which
    for ridge regression has a closed form (Allen's PRESS statistic, 1974). Returns the head and its l2.
    """
    rotated, ordered = Rotated.of(train[0]), sorted(grid, reverse=True)
    if validation is not None and len(validation[0]):
        heads = [solve_regression(rotated, train[1], l2) for l2 in ordered]
        errors = [float((head(validation[0])[:, 0] - validation[1]).square().mean()) for head in heads]
    else:
        errors = [float(leave_one_out(rotated, train[1], l2).square().mean()) for l2 in ordered]
    l2 = ordered[errors.index(min(errors))]
    return solve_regression(rotated, train[1], l2), l2


def leave_one_out(rotated: Rotated, values: Tensor, l2: float) -> Tensor:
    """The error `(N,)` in each value of the ridge regression on all others, without solving it N times.

    An image's own share h of its prediction (the hat matrix's diagonal) turns its residual e into e / (1 − h).
    """
    moments, mean = _moments(rotated, values)
    x, shrunk = rotated.x.double(), rotated.variances.double() + l2
    residuals = values.double() - mean - x @ (moments / shrunk)
    own = 1 / len(x) + (x.square() / shrunk).sum(1) / len(x)
    return residuals / (1 - own).clamp(min=1e-9)


def _moments(rotated: Rotated, values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean products `(R,)` of the coordinates with the centred values, and the values' mean, in double."""
    y = values.double()
    return rotated.x.double().T @ (y - y.mean()) / len(y), y.mean()
