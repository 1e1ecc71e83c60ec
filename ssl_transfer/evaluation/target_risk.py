"""The risk on images without labels, from labelled ones of another domain: deep embedded validation."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
import torchmetrics
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from ssl_transfer.evaluation.domain_distance import domain_logits

RATIO_GRID = (1.0, 1e-1, 1e-2, 1e-3)  # l2 of the classifier of domains, falling


class DeepEmbeddedValidation(torchmetrics.Metric):
    """The risk on the target, from held-out source images weighted by how target-like they are; lower is better.

    w(f) = (N_S / N_T) · P(target | f) / P(source | f) of a logistic regression of domains on the features, and the risk
    is mean(w ℓ) + η mean(w) − η with η = −cov(w ℓ, w) / var(w), which takes from its variance, as the mean of w should
    be 1 (You et al. 2019, Towards accurate model selection in deep unsupervised domain adaptation,
    https://proceedings.mlr.press/v97/you19a.html). ℓ is the cross-entropy in nats. Each half of the images is weighted
    by a classifier that has seen the other half alone. It takes p(label | features) to be the same in both domains, and
    where they hardly overlap it is carried by few images and may even be negative: see `effective_count`. NaN with
    fewer than four images of a domain.

    Args:
        seed: of the halves.

    >>> deep = DeepEmbeddedValidation()
    >>> x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    >>> deep.update(x[:30], torch.zeros(30, 2), torch.zeros(30, dtype=torch.long), x[30:])
    >>> round(float(deep.compute()), 4)
    0.6931
    """

    higher_is_better = False
    full_state_update = False
    source: Any
    losses: Any
    target: Any

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        for name in ("source", "losses", "target"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self,
        source: Tensor | None = None,
        logits: Tensor | None = None,
        targets: Tensor | None = None,
        target: Tensor | None = None,
    ) -> None:
        """Features `(B, D)`, logits `(B, K)` and classes `(B,)` of held-out source images; target features `(C, D)`.

        Either domain may come alone; source images without a label (−1) are passed.
        """
        if source is not None:
            assert logits is not None and targets is not None
            known = targets >= 0
            self.source.append(source.detach()[known].float())
            self.losses.append(F.cross_entropy(logits.detach()[known].float(), targets[known], reduction="none"))
        if target is not None:
            self.target.append(target.detach().float())

    def compute(self) -> Tensor:
        found = self._weights()
        if found is None:
            return torch.tensor(torch.nan, device=self.device)
        weights, losses = found.double(), dim_zero_cat(self.losses).double()
        return controlled_risk(weights, losses).float()

    def effective_count(self) -> float:
        """How many equally weighted images would be as good as the weighted ones: (Σ w)² / Σ w²; of this process."""
        weights = self._weights()
        return math.nan if weights is None else float(weights.sum().square() / weights.square().sum())

    def _weights(self) -> Tensor | None:
        if not len(self.source) or not len(self.target):
            return None
        source, target = dim_zero_cat(self.source), dim_zero_cat(self.target)
        return None if min(len(source), len(target)) < 4 else density_ratio(source, target, self.seed)


def controlled_risk(weights: Tensor, losses: Tensor) -> Tensor:
    """The weighted mean of losses with the weights as a control variate, of `(N,)` each.

    >>> controlled_risk(torch.tensor([0.5, 1.0, 3.0]), torch.full((3,), 2.0))
    tensor(2.)
    """
    weighted = weights * losses
    return weighted.mean() + _eta(weights, weighted) * (weights.mean() - 1)


def controlled_risk_influence(weights: Tensor, losses: Tensor) -> Tensor:
    """How far each image `(N,)` moves `controlled_risk`, its weight taken as it is: an influence function plus a mean.

    >>> controlled_risk_influence(torch.tensor([0.5, 1.0, 3.0]), torch.full((3,), 2.0)).std()
    tensor(0.)
    """
    weighted = weights * losses
    eta, (w, wl) = _eta(weights, weighted), (own - own.mean() for own in (weights, weighted))
    variance = w.square().mean().clamp(min=torch.finfo(w.dtype).tiny)
    of_eta = -w * (wl + eta * w) / variance  # how far an image moves η
    return weighted + eta * weights + (weights.mean() - 1) * of_eta


def _eta(weights: Tensor, weighted: Tensor) -> Tensor:
    covariance = torch.cov(torch.stack([weighted, weights]))  # (2, 2)
    return -covariance[0, 1] / covariance[1, 1] if covariance[1, 1] > 0 else weights.new_zeros(())


def density_ratio(source: Tensor, target: Tensor, seed: int = 0) -> Tensor:
    """p_target(f) / p_source(f) of source features `(N, D)`, `(N,)`; target `(M, D)`.

    By a logistic regression that has not seen the row, whose l2 has the least held-out cross-entropy.

    >>> ratio = density_ratio(torch.zeros(8, 1), torch.zeros(4, 1))
    >>> ratio.round(decimals=3).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    logits = domain_logits(source, target, seed, RATIO_GRID)  # (G, N + M)
    origin = torch.cat([torch.zeros(len(source)), torch.ones(len(target))]).to(logits)
    costs = F.binary_cross_entropy_with_logits(logits, origin.expand_as(logits), reduction="none").mean(1)
    return logits[costs.argmin(), : len(source)].exp() * (len(source) / len(target))
