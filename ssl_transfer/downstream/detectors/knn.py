"""Distance to the nearest normal images."""

from __future__ import annotations

from typing import Literal, Self

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from ssl_transfer.downstream.detectors.base import Detector, Scores, scores_of

BLOCK = 2**24  # distances held at once
NEAREST = 0.01  # among images that are all but equal, distances count relative to this share of the usual one
SPARE = 4  # candidates beyond the k nearest, whom rounding may have misplaced


class KNNDistance(Detector):
    """Mean distance to the k nearest normal images (Bergman et al. 2020, https://arxiv.org/abs/2002.10445).

    The fitted images are scored leave-one-out. Distances are computed in blocks, so that memory is that of the bank
    `(N, D)` and little more; the neighbours' distances are computed anew, by differences.

    Args:
        n_neighbors: k.
        metric: `cosine` (one minus the cosine; a zero vector is at distance 1 from all) or `euclidean`.
        relative_to: if above 0, the distance is divided by the mean such distance of so many nearest normal images: how
            far an image lies where they lie dense counts more than where they lie sparse (after the local outlier
            factor, Breunig et al. 2000, https://doi.org/10.1145/342009.335388).
        relative_power: to which that mean is raised first: 1 for the ratio, nearer 0 for less of it.
        false_alarm_rate: share of normal images that `predict` may call anomalies.

    Example:
        >>> normal = torch.randn(100, 8, generator=torch.Generator().manual_seed(0)) + 3
        >>> KNNDistance().fit(normal).predict([[3.0] * 8, [-3.0] * 8])
        array([ 1, -1])
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        metric: Literal["cosine", "euclidean"] = "cosine",
        relative_to: int = 0,
        relative_power: float = 1.0,
        false_alarm_rate: float = 0.05,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.relative_to = relative_to
        self.relative_power = relative_power
        self.false_alarm_rate = false_alarm_rate

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> Self:
        """Keep features `(N, D)` of N > k normal images.

        Raises:
            ValueError: an argument outside its range, too few images, all alike, NaN, or, for cosine, mostly zeros.
        """
        self.check_rate()
        if self.n_neighbors < 1:
            raise ValueError(f"n_neighbors must be 1 or more, not {self.n_neighbors}")
        if self.relative_to < 0:
            raise ValueError(f"relative_to must be 0, for none, or a number of images, not {self.relative_to}")
        if self.relative_power < 0:
            raise ValueError(f"relative_power must be 0 or more, not {self.relative_power}")
        if self.metric not in ("cosine", "euclidean"):
            raise ValueError(f"metric must be cosine or euclidean, not {self.metric!r}")
        x = self.read_features(X, fitting=True, at_least=max(self.n_neighbors, self.relative_to) + 1)
        zeros = int((x == 0).all(1).sum())
        if self.metric == "cosine" and 2 * zeros > len(x):
            raise ValueError(
                f"the features of {zeros} of {len(x)} normal images are zero and have no cosine; use "
                f"metric='euclidean', or another encoder"
            )
        self.centre_ = x.mean(0) if self.metric == "euclidean" else torch.zeros_like(x[0])
        self.bank_ = self._placed(x)
        alone, near = self._distances(self.bank_, itself=True)
        self.reach_ = alone  # (N,) of each fitted image, as if it had not been fitted
        self.least_ = max(NEAREST * float(alone.median()), float(torch.finfo(alone.dtype).tiny))
        self.set_offset(scores_of(self._compared(alone, near)))
        return self

    def score_samples(self, X: ArrayLike | Tensor) -> Scores:
        """Minus the mean distance to the k nearest fitted images, float64 `(N,)`."""
        return scores_of(self._compared(*self._distances(self._placed(self.read_features(X)))))

    def _compared(self, distances: Tensor, near: Tensor) -> Tensor:
        """Distances `(Q,)` as they are, or over those of the fitted images `near` `(Q, n)`."""
        if not self.relative_to:
            return distances
        return distances / self.reach_[near].mean(1).clamp(min=self.least_) ** self.relative_power

    def _placed(self, x: Tensor) -> Tensor:
        """Features where Euclidean distance is the metric, and small numbers make small rounding errors."""
        x = x.to(self.centre_.dtype)
        return (F.normalize(x, dim=1) if self.metric == "cosine" else x - self.centre_).contiguous()

    def _distances(self, queries: Tensor, itself: bool = False) -> tuple[Tensor, Tensor]:
        """Mean distance to the k nearest, float64 `(Q,)`, and the `relative_to` nearest `(Q, n)`.

        itself: query i is not its own neighbour.
        """
        norms = self.bank_.square().sum(1) if self.metric == "euclidean" else torch.ones_like(self.bank_[:, 0])
        wanted = min(max(self.n_neighbors, self.relative_to) + SPARE, len(self.bank_) - itself)
        rows = max(1, BLOCK // len(self.bank_))
        means, others = [], []
        for start in range(0, len(queries), rows):
            part = queries[start : start + rows]
            rough = torch.addmm(norms, part, self.bank_.T, alpha=-2)  # (rows, N): ‖b‖² − 2 q·b
            if itself:
                rough.diagonal(start).fill_(torch.inf)
            nearest = rough.topk(wanted, dim=1, largest=False).indices
            exact = self._exact(part, nearest).sort(dim=1, stable=True)
            means.append(exact.values[:, : self.n_neighbors].mean(1))
            others.append(nearest.gather(1, exact.indices[:, : self.relative_to]))
        return torch.cat(means), torch.cat(others)

    def _exact(self, queries: Tensor, nearest: Tensor) -> Tensor:
        """Distances of queries `(Q, D)` to bank rows `(Q, n)`, float64: squared differences, summed in that."""
        rows = max(1, BLOCK // (8 * nearest.shape[1] * queries.shape[1]))
        parts = []
        for some, near in zip(queries.split(rows), nearest.split(rows), strict=True):
            rows_near = self.bank_[near]
            squared = (some[:, None] - rows_near).square_().sum(2, dtype=torch.float64)
            if self.metric == "euclidean":
                parts.append(squared.sqrt())
            else:  # 1 − cosine is half of that, but where a vector is zero
                zero = (some == 0).all(1, keepdim=True) | (rows_near == 0).all(2)
                parts.append(torch.where(zero, 1.0, squared / 2))
        return torch.cat(parts)
