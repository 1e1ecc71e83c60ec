"""Cheap readings of frozen features: nearest neighbours and linear classifiers, solved rather than trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


ROUGH, POLISH = 16, 60  # steps of L-BFGS: to compare penalties, and for the one that is chosen
CLEARLY_WORSE = 0.002  # of accuracy


@dataclass
class LinearHead:
    """An affine map from features to logits: `weight (K, D)`, `bias (K,)`."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        return features @ self.weight.T + self.bias


@dataclass
class Rotated:
    """Standardised features along their principal axes, in which logistic regression is quick to solve.

    x `(N, R)` with R ≤ min(N, D), axes `(D, R)`, variances `(R,)` of x; mean and scale `(D,)` undo the standardisation.
    """

    x: Tensor
    axes: Tensor
    variances: Tensor
    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, features: Tensor, common_scale: bool = False) -> Rotated:
        """From features `(N, D)`, by the smaller of their D×D and N×N products.

        common_scale: one scale for all features, so that they keep their proportions.
        """
        with torch.inference_mode(False):  # the caller may hold tensors of inference mode
            features = features.clone().float()
            mean, scale = _standardisation(features, common_scale)
            x = (features - mean) / scale
            wide = x.shape[1] > len(x)
            product = ((x @ x.T if wide else x.T @ x) / len(x)).double()
            values, vectors = torch.linalg.eigh(product)
            kept = values > values[-1].clamp(min=1e-12) * 1e-7  # what is less is rounding
            values, vectors = values[kept], vectors[:, kept]
            axes = (x.T.double() @ vectors / (values * len(x)).sqrt() if wide else vectors).float()
            return cls(x @ axes, axes, values.float(), mean, scale)

    def head(self, weight: Tensor, bias: Tensor) -> LinearHead:
        """A head on x, weight `(K, R)`, as one on the features themselves."""
        unscaled = weight @ self.axes.T / self.scale
        return LinearHead(unscaled, bias - unscaled @ self.mean)

    def coordinates(self, head: LinearHead) -> tuple[Tensor, Tensor]:
        """The way back: weight and bias on x of a head on the features."""
        return (head.weight * self.scale) @ self.axes, head.bias + head.weight @ self.mean


def solve_logistic(
    features: Tensor | Rotated,
    targets: Tensor,
    classes: int,
    l2: float = 1e-4,
    start: LinearHead | None = None,
    steps: int = 200,
    weights: Tensor | None = None,
) -> LinearHead:
    """Multinomial logistic regression by full-batch L-BFGS on standardised features.

    Minimises mean cross-entropy + l2/2 · ‖W‖² over features scaled to unit variance, and returns the head for
    unscaled features. features `(N, D)`, targets `(N,)`. `start` warms a path over l2, for which features are best
    rotated once. `weights` `(K,)` of the classes make it the weighted mean.
    """
    rotated = features if isinstance(features, Rotated) else Rotated.of(features)
    with torch.inference_mode(False):
        targets = targets.clone()
        given = None if weights is None else weights.clone().to(rotated.x)
    return descend(
        rotated,
        classes,
        l2,
        start,
        steps,
        lambda logits: logits.softmax(1),
        lambda logits: F.cross_entropy(logits, targets, weight=given),
    )


def descend(
    rotated: Rotated,
    outputs: int,
    l2: float,
    start: LinearHead | None,
    steps: int,
    probabilities: Callable[[Tensor], Tensor],
    cost: Callable[[Tensor], Tensor],
) -> LinearHead:
    """The head that minimises cost + l2/2 · ‖W‖², by L-BFGS from zero or from `start`; it is for unscaled features.

    In the principal axes, each scaled by its curvature where the descent begins, the problem is round, and some ten
    steps do what takes hundreds in the features' own axes. `probabilities` and `cost` of logits `(N, outputs)`.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = rotated.x
        weight, bias = torch.zeros(outputs, x.shape[1], device=x.device), torch.zeros(outputs, device=x.device)
        if start is not None:
            weight, bias = rotated.coordinates(start)
        p = probabilities(x @ weight.T + bias)
        curvature = (p * (1 - p)).mean(0)[:, None] * rotated.variances  # (K, R), of the start
        step = (curvature + l2).clamp(min=1e-6).rsqrt()
        weight, bias = (weight / step).requires_grad_(True), bias.requires_grad_(True)
        solver = torch.optim.LBFGS(
            [weight, bias], max_iter=steps, tolerance_grad=1e-5, history_size=10, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            solver.zero_grad()
            w = weight * step
            value = cost(x @ w.T + bias) + 0.5 * l2 * (w**2).sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        solver.step(loss)  # type: ignore[no-untyped-call]
        return rotated.head(weight.detach() * step, bias.detach())


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
    weights: Tensor | None = None,
    common_scale: bool = False,
) -> tuple[LinearHead, float]:
    """Logistic regression with the l2 of `grid` that has the best accuracy on held-out features.

    train, validation: `(features, targets)`. Without a validation set l2 is chosen by three-fold cross-validation on
    `train`. `weights` `(K,)` of the classes count in both. `common_scale` scales all features alike, which suits pixels
    and principal components: scaled one by one, those that hardly vary are blown up. Returns the head and its l2.
    """
    ordered = sorted(grid, reverse=True)
    rotated = Rotated.of(train[0], common_scale)
    if validation is None or not len(validation[0]):
        l2 = _cross_validated(*train, classes, ordered, weights=weights, common_scale=common_scale)
        return solve_logistic(rotated, train[1], classes, l2, weights=weights), l2
    best: tuple[float, LinearHead, float] | None = None
    for l2, head in _path(rotated, train[1], classes, ordered, weights):
        score = accuracy(head(validation[0]), validation[1], weights)
        if best is None or score > best[0]:
            best = score, head, l2
        elif score < best[0] - CLEARLY_WORSE:
            break  # a smaller penalty only overfits more
    assert best is not None, "an empty grid"
    polished = solve_logistic(rotated, train[1], classes, best[2], start=best[1], steps=POLISH, weights=weights)
    return polished, best[2]


def _path(
    rotated: Rotated, targets: Tensor, classes: int, grid: Sequence[float], weights: Tensor | None = None
) -> Iterator[tuple[float, LinearHead]]:
    """A head for each l2 of a falling grid, each from where the one before ended, good enough to compare them."""
    head: LinearHead | None = None
    for l2 in grid:
        head = solve_logistic(rotated, targets, classes, l2, start=head, steps=ROUGH, weights=weights)
        yield l2, head


def accuracy(scores: Tensor, targets: Tensor, weights: Tensor | None = None) -> float:
    """Share of rows whose largest score is the target's; `weights` `(K,)` of the classes make it a weighted share."""
    total = len(targets) if weights is None else weights.to(scores)[targets].sum()
    return float(_right(scores, targets, weights) / total)


def _right(scores: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """How many rows are right, each counted by the weight of its class."""
    right = (scores.argmax(1) == targets).float()
    return (right if weights is None else right * weights.to(right)[targets]).sum()


def _standardisation(features: Tensor, common_scale: bool = False) -> tuple[Tensor, Tensor]:
    scale = features.std(0, correction=0)
    if common_scale:
        scale = scale.square().mean().sqrt().expand_as(scale)
    return features.mean(0), scale.clamp(min=1e-4)


def _cross_validated(
    features: Tensor,
    targets: Tensor,
    classes: int,
    grid: Sequence[float],
    folds: int = 3,
    weights: Tensor | None = None,
    common_scale: bool = False,
) -> float:
    """The l2 of the grid that is right most often on held-out folds."""
    fold = _stratified_folds(targets, folds)
    right = [0.0] * len(grid)
    for held_out in range(folds):
        inside, outside = fold != held_out, fold == held_out
        if not inside.any() or not outside.any():
            continue
        rotated = Rotated.of(features[inside], common_scale)
        for number, (_, head) in enumerate(_path(rotated, targets[inside], classes, grid, weights)):
            right[number] += float(_right(head(features[outside]), targets[outside], weights))
    return grid[right.index(max(right))]


def _stratified_folds(targets: Tensor, folds: int) -> Tensor:
    """A fold number for each row, dealt in turn within each class."""
    order = targets.argsort(stable=True)
    fold = torch.empty_like(targets)
    fold[order] = torch.arange(len(targets), device=targets.device) % folds
    return fold
