"""How well features suit labels, told without training: LogME, the H-score and LEEP, in double precision."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

_STEPS, _TOLERANCE = 100, 1e-6  # of LogME's fixed point
_LEAST = 1e-5  # beside sums of squares, as in the paper's code: no noise at all would be endless evidence


def log_me(features: Tensor, targets: Tensor, classes: int) -> float:
    """Log of the maximum evidence of the labels, a label and class: the higher, the better the features suit them.

    A Bayesian linear regression of each class's 0 and 1 on features `(N, D)`, without an intercept; the precisions of
    its prior (α) and noise (β) are those of the largest evidence, found by the fixed point of MacKay (You et al. 2021,
    https://arxiv.org/abs/2102.11005; fixed point: https://arxiv.org/abs/2110.10545). Comparable among features of the
    same images and labels only. targets `(N,)`.

    >>> labels = torch.arange(100) % 2
    >>> fitting, useless = F.one_hot(labels).double(), torch.ones(100, 1)
    >>> log_me(fitting, labels, 2) > log_me(useless, labels, 2)
    True
    """
    x, y = features.double(), _indicators(targets, classes)
    left, singular, _ = torch.linalg.svd(x, full_matrices=False)
    real = singular > singular[:1] * 1e-10  # the rest is rounding
    left, singular = left[:, real], singular[real]
    projected = (left.T @ y).square()  # (R, K)
    outside = (y.square().sum(0) - projected.sum(0)).clamp(min=0)  # (K,), what no weights can explain
    strength = singular.square()[:, None]  # (R, 1)
    ratio = torch.ones(classes, dtype=torch.float64, device=x.device)  # α / β
    for _ in range(_STEPS):
        alpha, beta = _precisions(strength, projected, outside, ratio, len(x))
        change = (alpha / beta - ratio).abs() / ratio
        ratio = alpha / beta
        if float(change.max()) < _TOLERANCE:
            break
    return float(_log_evidence(strength, projected, outside, alpha, beta, len(x)).mean()) / len(x)


def h_score(features: Tensor, targets: Tensor, classes: int, shrinkage: float | None = None) -> float:
    """How much of the features' variance lies between classes: 0 none, up to min(classes − 1, D) all of it.

    tr(cov(f)⁻¹ cov(E[f | y])) of features `(N, D)` with targets `(N,)` (Bao et al. 2019,
    https://doi.org/10.1109/ICIP.2019.8803726). The covariance is shrunk towards the identity by the share `shrinkage`,
    and the second factor as much; None is the share of Ledoit and Wolf (Ibrahim et al. 2022,
    https://arxiv.org/abs/2110.06893), which keeps few images of wide features from looking perfect; 0 the original.

    >>> labels = torch.arange(90) % 3
    >>> round(h_score(F.one_hot(labels).float(), labels, 3, shrinkage=0.0), 6)
    2.0
    """
    x = features.double()
    x = x - x.mean(0)
    share = float(ledoit_wolf_shrinkage(x.cpu().numpy())) if shrinkage is None else shrinkage
    y = _indicators(targets, classes)
    counts = y.sum(0)
    between = (y.T @ x) / counts.clamp(min=1)[:, None] * (counts / len(x)).sqrt()[:, None]  # (K, D), its square the cov
    values, axes = torch.linalg.eigh(x.T @ x / len(x))
    shrunk = (1 - share) * values.clamp(min=0) + share * values.mean()
    kept = shrunk > shrunk[-1].clamp(min=1e-300) * 1e-12
    along = (between @ axes).square().sum(0)
    return float((1 - share) * (along[kept] / shrunk[kept]).sum())


def leep(probabilities: Tensor, targets: Tensor, classes: int) -> float:
    """Mean log-likelihood of the labels by what a source classifier says: 0 at best, −H(y) where it tells nothing.

    probabilities `(N, Z)` over the source's classes, rows summing to one; targets `(N,)`. A new label is predicted by
    Σ P(y | z) θ(x)_z with the empirical P(y | z) (Nguyen et al. 2020, https://arxiv.org/abs/2002.12462).

    >>> leep(torch.eye(3)[[0, 1, 2, 2]], torch.tensor([1, 0, 2, 2]), 3)
    0.0
    """
    theta = probabilities.double()
    joint = _indicators(targets, classes).T @ theta / len(theta)  # (K, Z)
    conditional = joint / joint.sum(0).clamp(min=1e-300)
    likelihood = (theta @ conditional.T).gather(1, targets[:, None])
    return float(likelihood.clamp(min=1e-300).log().mean())


def _indicators(targets: Tensor, classes: int) -> Tensor:
    return F.one_hot(targets, classes).double()  # (N, K)


def _precisions(
    strength: Tensor, projected: Tensor, outside: Tensor, ratio: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """MacKay's step: precisions α and β `(K,)` from the weights that the last α / β gives."""
    determined = (strength / (strength + ratio)).sum(0)  # effective number of weights
    weights, residual = _fit(strength, projected, outside, ratio)
    alpha = determined.clamp(min=_LEAST) / (weights + _LEAST)  # features that are all zero determine nothing
    return alpha, (count - determined) / (residual + _LEAST)


def _fit(strength: Tensor, projected: Tensor, outside: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Squared weights and squared residual `(K,)` of the ridge solutions of penalty `ratio`."""
    weights = (strength * projected / (strength + ratio).square()).sum(0)
    residual = (projected * (ratio / (strength + ratio)).square()).sum(0) + outside
    return weights, residual


def _log_evidence(
    strength: Tensor, projected: Tensor, outside: Tensor, alpha: Tensor, beta: Tensor, count: int
) -> Tensor:
    """Log evidence `(K,)` of N labels; directions without variance leave it as it is."""
    weights, residual = _fit(strength, projected, outside, alpha / beta)
    spread = (alpha.log() - (alpha + beta * strength).log()).sum(0)
    return 0.5 * (count * (beta / (2 * math.pi)).log() + spread - beta * residual - alpha * weights)
