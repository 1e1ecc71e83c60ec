"""A smooth boundary around the normal images."""

from __future__ import annotations

from typing import Self

import torch
from numpy.typing import ArrayLike
from sklearn import svm
from torch import Tensor

from ssl_transfer.downstream.detectors.base import Detector, Scores, scores_of
from ssl_transfer.downstream.detectors.kernel import log_kernels, width_of


class OneClassSVM(Detector):
    """Support vectors of the normal images, Gaussian kernel (Schölkopf et al. 2001, doi 10.1162/089976601750264965).

    Solved by scikit-learn, in time quadratic in the number of images; scored from the support vectors. The threshold is
    not the solver's: it comes from `false_alarm_rate` and the scores of the fitted images, each half of them by the
    support vectors of the other half.

    Args:
        nu: upper bound on the share of normal images outside the boundary, lower bound on that of support vectors.
        gamma: of the kernel exp(−gamma · d²). None: 10 / (D · var), var the variance of all entries of the features
            (Sohn et al. 2021, https://arxiv.org/abs/2011.02578), so that features of another scale score alike.
        false_alarm_rate: share of normal images that `predict` may call anomalies.

    Example:
        >>> normal = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
        >>> OneClassSVM().fit(normal).predict([[0.0, 0.0], [9.0, 0.0]])
        array([ 1, -1])
    """

    def __init__(self, nu: float = 0.5, gamma: float | None = None, false_alarm_rate: float = 0.05) -> None:
        self.nu = nu
        self.gamma = gamma
        self.false_alarm_rate = false_alarm_rate

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> Self:
        """Solve for the support vectors among features `(N, D)` of N ≥ 4 normal images.

        Raises:
            ValueError: an argument outside its range, too few images, all alike, or NaN.
        """
        self.check_rate()
        if not 0 < self.nu <= 1:
            raise ValueError(f"nu must be above 0 and at most 1, not {self.nu}")
        if self.gamma is not None and not self.gamma > 0:
            raise ValueError(f"gamma must be above 0, or None for a rule, not {self.gamma}")
        x = self.read_features(X, fitting=True, at_least=4).double()
        self.gamma_ = self.gamma or 10 / width_of(x)
        self.centre_ = x.mean(0)
        x = x - self.centre_
        self.support_vectors_, self.dual_coef_ = self._solve(x)
        self.set_offset(scores_of(-self._held_out(x)))
        return self

    def score_samples(self, X: ArrayLike | Tensor) -> Scores:
        """The weighted sum of kernels, float64 `(N,)`, as scikit-learn's `score_samples`."""
        x = self.read_features(X).double() - self.centre_
        return scores_of(-self._kernel_sums(x, self.support_vectors_, self.dual_coef_))

    def _solve(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Support vectors `(S, D)` of centred features and their coefficients `(S,)`, which add up to nu · N."""
        solved = svm.OneClassSVM(nu=self.nu, gamma=self.gamma_).fit(x.cpu().numpy())
        vectors, coefficients = (torch.tensor(a, device=x.device) for a in (solved.support_vectors_, solved.dual_coef_))
        return vectors, coefficients[0]

    def _held_out(self, x: Tensor) -> Tensor:
        """Scores `(N,)` of the fitted images, each half by the other, on the scale of all."""
        scores = torch.empty_like(x[:, 0])
        for half in (0, 1):
            vectors, coefficients = self._solve(x[1 - half :: 2])
            scores[half::2] = self._kernel_sums(x[half::2], vectors, coefficients) * (
                self.nu * len(x) / coefficients.sum()
            )
        return scores

    def _kernel_sums(self, queries: Tensor, vectors: Tensor, coefficients: Tensor) -> Tensor:
        blocks = log_kernels(queries, vectors, self.gamma_)
        return torch.cat([exponents.exp_() @ coefficients for _, exponents in blocks])
