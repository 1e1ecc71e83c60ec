"""Density of the normal images."""

from __future__ import annotations

import math
from typing import Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ssl_transfer.downstream.detectors.base import Detector, Scores, scores_of
from ssl_transfer.downstream.detectors.kernel import log_kernels, width_of


class GaussianKDE(Detector):
    """Log density by an isotropic Gaussian at each normal image (Sohn et al. 2021, https://arxiv.org/abs/2011.02578).

    The fitted images are scored leave-one-out.

    Args:
        bandwidth: standard deviation of the Gaussians, in units of the features. None: √(D · var / 20), var the
            variance of all entries of the features, so that the kernel is that of `OneClassSVM`, exp(−10 d² / (D ·
            var)), and features of another scale are ranked alike.
        false_alarm_rate: share of normal images that `predict` may call anomalies.

    Example:
        >>> normal = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
        >>> GaussianKDE().fit(normal).predict([[0.0, 0.0], [9.0, 0.0]])
        array([ 1, -1])
    """

    def __init__(self, bandwidth: float | None = None, false_alarm_rate: float = 0.05) -> None:
        self.bandwidth = bandwidth
        self.false_alarm_rate = false_alarm_rate

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> Self:
        """Keep features `(N, D)` of N ≥ 2 normal images.

        Raises:
            ValueError: an argument outside its range, too few images, all alike, or NaN.
        """
        self.check_rate()
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise ValueError(f"bandwidth must be above 0, or None for a rule, not {self.bandwidth}")
        x = self.read_features(X, fitting=True, at_least=2).double()
        self.centre_ = x.mean(0)
        self.bank_ = x - self.centre_
        self.bandwidth_ = self.bandwidth or (width_of(x) / 20) ** 0.5
        self.set_offset(scores_of(-self._log_density(self.bank_, itself=True)))
        return self

    def score_samples(self, X: ArrayLike | Tensor) -> Scores:
        """The log density, float64 `(N,)`."""
        return scores_of(-self._log_density(self.read_features(X).double() - self.centre_))

    def _log_density(self, queries: Tensor, itself: bool = False) -> Tensor:
        """Log density `(Q,)` at centred queries; `itself`: query i is bank row i, which is left out."""
        n, width = self.bank_.shape
        constant = math.log(n - itself) + width / 2 * math.log(2 * math.pi * self.bandwidth_**2)
        parts = []
        for start, exponents in log_kernels(queries, self.bank_, 0.5 / self.bandwidth_**2):
            if itself:
                exponents.diagonal(start).fill_(-torch.inf)
            parts.append(exponents.logsumexp(1))
        return torch.cat(parts) - constant
