"""Distance from the mean of the normal images, in units of their covariance."""

from __future__ import annotations

from typing import Self

import torch
from numpy.typing import ArrayLike
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

from ssl_transfer.downstream.detectors.base import Detector, Scores, scores_of


class Mahalanobis(Detector):
    """Mahalanobis distance to one Gaussian of the features (Rippel et al. 2020, https://arxiv.org/abs/2005.14140).

    The covariance is (1 − s) S + s · tr(S)/D · I, so that it has an inverse with fewer images than dimensions too. The
    fitted images are scored leave-one-out, exactly for a given s and trace.

    Args:
        shrinkage: s from 0 (the covariance as it is) to 1 (a sphere); None takes Ledoit and Wolf's.
        false_alarm_rate: share of normal images that `predict` may call anomalies.

    Example:
        >>> normal = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10.0])
        >>> Mahalanobis().fit(normal).predict([[0.0, 9.0], [9.0, 0.0]])
        array([ 1, -1])
    """

    def __init__(self, shrinkage: float | None = None, false_alarm_rate: float = 0.05) -> None:
        self.shrinkage = shrinkage
        self.false_alarm_rate = false_alarm_rate

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> Self:
        """Estimate mean and covariance from features `(N, D)` of N ≥ 2 normal images.

        Raises:
            ValueError: an argument outside its range, too few images, all alike, NaN, or no inverse with shrinkage 0.
        """
        self.check_rate()
        if self.shrinkage is not None and not 0 <= self.shrinkage <= 1:
            raise ValueError(f"shrinkage must lie in 0 to 1, or be None for Ledoit and Wolf's, not {self.shrinkage}")
        x = self.read_features(X, fitting=True, at_least=2).double()
        n = len(x)
        self.mean_ = x.mean(0)
        centred = x - self.mean_
        covariance = centred.T @ centred / n  # (D, D)
        self.scale_ = float(covariance.diagonal().mean())  # of variance, so that tiny features do no harm
        self.shrinkage_ = float(
            ledoit_wolf_shrinkage((centred / self.scale_**0.5).cpu().numpy(), assume_centered=True)
            if self.shrinkage is None
            else self.shrinkage
        )
        covariance = covariance / self.scale_
        self.cholesky_ = self._cholesky(covariance)
        self.set_offset(scores_of(self._left_out(centred, covariance)))
        return self

    def score_samples(self, X: ArrayLike | Tensor) -> Scores:
        """Minus the Mahalanobis distance, float64 `(N,)`."""
        x = self.read_features(X).double()
        return scores_of(self._squared(x - self.mean_, self.cholesky_).sqrt())

    def _squared(self, centred: Tensor, cholesky: Tensor) -> Tensor:
        white = torch.linalg.solve_triangular(cholesky, centred.T / self.scale_**0.5, upper=False)  # (D, N)
        return white.square().sum(0)

    def _cholesky(self, covariance: Tensor) -> Tensor:
        """Lower triangle of the shrunk covariance, of a matrix whose mean variance is one."""
        shrunk = (1 - self.shrinkage_) * covariance
        shrunk.diagonal().add_(self.shrinkage_)
        factor, failed = torch.linalg.cholesky_ex(shrunk)
        if bool(failed) or float(factor.diagonal().min()) < 1e-7:
            raise ValueError(
                f"the covariance of these features has no inverse with shrinkage={self.shrinkage}: some feature is "
                f"constant or depends on others; set shrinkage above 0, or None for Ledoit and Wolf's"
            )
        return factor.contiguous()

    def _left_out(self, centred: Tensor, covariance: Tensor) -> Tensor:
        """Distance of each fitted image from the Gaussian of the others: one rank less (Sherman and Morrison).

        Without image i the covariance is n/(n−1) S − n/(n−1)² d dᵀ, and its distance from the mean d · n/(n−1).
        """
        n = len(centred)
        keep = (1 - self.shrinkage_) * n / (n - 1)
        others = keep * covariance
        others.diagonal().add_(self.shrinkage_)
        factor, failed = torch.linalg.cholesky_ex(others)
        assert not bool(failed), "a larger matrix than the one that has an inverse"
        q = self._squared(centred, factor)
        return n / (n - 1) * (q / (1 - keep / (n - 1) * q).clamp(min=1e-12)).sqrt()
