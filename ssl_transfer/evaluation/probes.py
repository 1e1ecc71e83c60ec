"""Cheap readings of frozen features: nearest neighbours and linear classifiers, solved rather than trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def knn_scores(
    bank: Tensor,
    targets: Tensor,
    queries: Tensor,
    classes: int,
    k: int = 20,
    temperature: float = 0.1,
    chunk: int = 2048,
) -> Tensor:
    """Class scores `(Q, classes)`, rows summing to one, by weighted cosine nearest neighbours.

    bank `(N, D)` with targets `(N,)`; queries `(Q, D)`. Each of the k nearest votes with weight exp(similarity /
    temperature) (Wu et al. 2018, https://arxiv.org/abs/1805.01978). Memory is chunk × N, never Q × N.

    >>> bank = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> knn_scores(bank, torch.tensor([0, 1]), torch.tensor([[2.0, 0.1]]), classes=2, k=1).argmax(1)
    tensor([0])
    """
    bank, queries = F.normalize(bank.float(), dim=1), F.normalize(queries.float(), dim=1)
    k = min(k, len(bank))
    scores = []
    for part in queries.split(chunk):
        similarity, nearest = (part @ bank.T).topk(k, dim=1)  # (chunk, k)
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        votes = torch.zeros(len(part), classes, device=part.device).scatter_add_(1, targets[nearest], weights)
        scores.append(votes / votes.sum(1, keepdim=True))
    return torch.cat(scores)


@dataclass
class LinearHead:
    """An affine map from features to logits: `weight (K, D)`, `bias (K,)`."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        return features @ self.weight.T + self.bias


def solve_logistic(
    features: Tensor, targets: Tensor, classes: int, l2: float = 1e-4, start: LinearHead | None = None, steps: int = 200
) -> LinearHead:
    """Multinomial logistic regression by full-batch L-BFGS on standardised features.

    Minimises mean cross-entropy + l2/2 · ‖W‖² over features scaled to unit variance, and returns the head for
    unscaled features. features `(N, D)`, targets `(N,)`; `start` warms a path over l2.
    """
    with torch.inference_mode(False), torch.enable_grad():  # the caller may hold tensors of inference mode
        features, targets = features.clone(), targets.clone()
        mean, scale = _standardisation(features)
        x = (features - mean) / scale
        weight = torch.zeros(classes, x.shape[1], device=x.device)
        bias = torch.zeros(classes, device=x.device)
        if start is not None:
            weight, bias = start.weight * scale, start.bias + start.weight @ mean
        weight.requires_grad_(True)
        bias.requires_grad_(True)
        solver = torch.optim.LBFGS(
            [weight, bias], max_iter=steps, tolerance_grad=1e-5, history_size=10, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            solver.zero_grad()
            value = F.cross_entropy(x @ weight.T + bias, targets) + 0.5 * l2 * (weight**2).sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        solver.step(loss)  # type: ignore[no-untyped-call]
        weight = weight.detach() / scale
        return LinearHead(weight, bias.detach() - weight @ mean)


def solve_ridge(features: Tensor, targets: Tensor, classes: int, l2: float = 1e-3) -> LinearHead:
    """Closed-form ridge regression onto one-hot classes: the cheapest linear probe.

    Minimises ‖X W + b − Y‖²/N + l2 · ‖W‖² over standardised features.
    """
    mean, scale = _standardisation(features)
    x = (features - mean) / scale
    y = F.one_hot(targets, classes).to(x)
    gram, moments = (x.T @ x / len(x)).double(), (x.T @ (y - y.mean(0)) / len(x)).double()  # (D, D), (D, K)
    gram.diagonal().add_(l2)
    weight = torch.linalg.solve(gram, moments).T.float() / scale
    return LinearHead(weight, y.mean(0) - weight @ mean)


def select_logistic(
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor] | None,
    classes: int,
    grid: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4),
) -> tuple[LinearHead, float]:
    """Logistic regression with the l2 of `grid` that has the best accuracy on held-out features.

    train, validation: `(features, targets)`. Without a validation set l2 is chosen by three-fold cross-validation on
    `train`. Returns the head and its l2.
    """
    if validation is not None and len(validation[0]):
        scores, heads = [], []
        head: LinearHead | None = None
        for l2 in sorted(grid, reverse=True):
            head = solve_logistic(*train, classes, l2, start=head)
            heads.append(head)
            scores.append((accuracy(head(validation[0]), validation[1]), l2))
        best = max(range(len(scores)), key=lambda i: scores[i][0])
        return heads[best], scores[best][1]
    l2 = max(grid, key=lambda value: _cross_validated(*train, classes, value))
    return solve_logistic(*train, classes, l2), l2


def accuracy(scores: Tensor, targets: Tensor) -> float:
    """Share of rows whose largest score is the target's."""
    return float((scores.argmax(1) == targets).float().mean())


def _standardisation(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.mean(0), features.std(0, correction=0).clamp(min=1e-4)


def _cross_validated(features: Tensor, targets: Tensor, classes: int, l2: float, folds: int = 3) -> float:
    fold = _stratified_folds(targets, folds)
    right = 0.0
    for held_out in range(folds):
        inside, outside = fold != held_out, fold == held_out
        if not inside.any() or not outside.any():
            continue
        head = solve_logistic(features[inside], targets[inside], classes, l2)
        right += float((head(features[outside]).argmax(1) == targets[outside]).sum())
    return right / len(targets)


def _stratified_folds(targets: Tensor, folds: int) -> Tensor:
    """A fold number for each row, dealt in turn within each class."""
    order = targets.argsort(stable=True)
    fold = torch.empty_like(targets)
    fold[order] = torch.arange(len(targets), device=targets.device) % folds
    return fold
