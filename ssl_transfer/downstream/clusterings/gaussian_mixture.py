"""Clusters that are Gaussians."""

from __future__ import annotations

import warnings
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn import mixture
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from ssl_transfer.downstream.clusterings.base import MINUTES, Assignment, Clustering, check_number, drawn
from ssl_transfer.downstream.vectors import seed_of

CHOOSING = 5000  # points that the number of clusters is chosen on
REGULARISE = 1e-4  # added to variances, as a share of the mean variance
NUMBER = 50e-9  # seconds of each number of a covariance and point
COVARIANCES = ("full", "tied", "diag", "spherical")


class GaussianMixture(Clustering):
    """A mixture of Gaussians, fitted by expectation maximisation (Dempster et al. 1977).

    A number of clusters that is not given is the one of the lowest Bayesian information criterion (Schwarz 1978), on at
    most 5,000 points; as it charges for every number of a covariance, full ones in many dimensions give few clusters.

    Args:
        n_clusters: how many; None tries 1 to `most`.
        covariance: `full`, one for all (`tied`), variances alone (`diag`), or one variance a cluster (`spherical`).
        most: the largest number that is tried.
        seed: of the start and of the points that are drawn.

    Example:
        >>> x = torch.cat([torch.randn(50, 2) + 20 * k for k in range(3)])
        >>> GaussianMixture().fit(x).predict_proba(x[:1]).round(2).max(1)
        array([1.])
    """

    belonging: ClassVar[Literal["distance", "probability"]] = "probability"
    chosen_by: ClassVar[str] = "BIC"
    weights_: Tensor
    means_: Tensor
    factors_: Tensor  # of the precisions, as scikit-learn's precisions_cholesky_
    centre_: Tensor
    scale_: float

    def __init__(
        self,
        n_clusters: int | None = None,
        covariance: Literal["full", "tied", "diag", "spherical"] = "full",
        most: int = 20,
        seed: int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.covariance = covariance
        self.most = most
        self.seed = seed

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> Self:
        """Fit the mixture to vectors `(N, D)`.

        Raises:
            ValueError: an argument outside its range, fewer points than the covariances need, NaN.
        """
        x = self.read(X, fitting=True).cpu().double()
        self.centre_ = x.mean(0)
        self.scale_ = float((x - self.centre_).square().mean().sqrt())
        points = self._standardised(x)
        self.choice_ = self._scores(drawn(points, CHOOSING, self.seed)) if self.n_clusters is None else {}
        wanted = self.n_clusters if self.n_clusters is not None else min(self.choice_, key=lambda k: self.choice_[k])
        found = self._mixture(points, wanted)
        order = np.argsort(-found.weights_, kind="stable")
        self.weights_ = torch.from_numpy(found.weights_[order])
        self.means_ = torch.from_numpy(found.means_[order])
        factors = found.precisions_cholesky_
        self.factors_ = torch.from_numpy(factors if self.covariance == "tied" else factors[order])
        self.converged_ = bool(found.converged_)
        self.n_clusters_ = wanted
        self.labels_ = self._assign(x.float()).labels
        return self

    def predict_proba(self, X: ArrayLike | Tensor) -> NDArray[np.float64]:
        """The probability of each cluster, `(N, n_clusters_)`, of vectors `(N, D)`."""
        points = self._standardised(self.read(X))
        probabilities: NDArray[np.float64] = self._fitted().predict_proba(points)
        return probabilities

    def check(self, count: int, width: int) -> None:
        check_number(self)
        if self.covariance not in COVARIANCES:
            raise ValueError(
                f"GaussianMixture: covariance must be {', '.join(COVARIANCES[:-1])} or {COVARIANCES[-1]}, not "
                f"{self.covariance!r}"
            )
        super().check(count, width)
        k = self.n_clusters or 1
        if self.covariance == "full" and count <= k * width:
            raise ValueError(
                f"GaussianMixture: {count} points (n_samples={count}) do not settle {k} full covariances of {width} "
                f"features, which take more than {k * width}: give more images, set covariance to diag, or cluster the "
                "coordinates of a Reducer"
            )

    def fewest_points(self) -> int:
        return max(2, self.n_clusters or 2)

    def fewer_hint(self) -> str:
        return ", or set n_clusters lower" if self.n_clusters is not None else ""

    def most_points(self, width: int) -> int:
        numbers = width**2 if self._is_square() else width
        return int(60 * MINUTES / (NUMBER * numbers * (self.n_clusters or self.most)))

    def quicker(self) -> str:
        return "covariance diag" if self._is_square() else "KMeans"

    def _is_square(self) -> bool:
        return self.covariance in ("full", "tied")

    def _scores(self, x: Tensor) -> dict[int, float]:
        """The information criterion of each number of clusters that so many points can settle."""
        width = x.shape[1] if self.covariance == "full" else 1
        most = max(1, min(self.most, (len(x) - 1) // (width + 1)))
        return {k: float(self._mixture(x, k).bic(x.numpy())) for k in range(1, most + 1)}

    def _mixture(self, x: Tensor, k: int) -> mixture.GaussianMixture:
        options = {"covariance_type": self.covariance, "reg_covar": REGULARISE, "max_iter": 200}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # `converged_` tells
            return mixture.GaussianMixture(k, random_state=seed_of(self.seed), **options).fit(x.numpy())

    def _fitted(self) -> mixture.GaussianMixture:
        """Scikit-learn's mixture, rebuilt."""
        made = mixture.GaussianMixture(self.n_clusters_, covariance_type=self.covariance)
        made.weights_, made.means_ = self.weights_.numpy(), self.means_.numpy()
        made.precisions_cholesky_ = self.factors_.numpy()
        return made

    def _assign(self, x: Tensor) -> Assignment:
        made = self._fitted()
        joint = made._estimate_weighted_log_prob(self._standardised(x).numpy())  # (N, K): log density with weight
        labels = joint.argmax(1).astype(np.int64)
        best = joint.max(1)
        probability = np.exp(best - np.logaddexp.reduce(joint, axis=1))
        return Assignment(labels, probability.astype(np.float32), best.astype(np.float32))

    def _standardised(self, x: Tensor) -> Tensor:
        return (x.cpu().double() - self.centre_) / self.scale_
