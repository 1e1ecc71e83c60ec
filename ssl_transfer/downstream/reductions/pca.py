"""Principal components: the directions of the largest variance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ssl_transfer.downstream.reductions.base import Coordinates, Reduction, coordinates

ROWS = 8192  # rows in float64 at once
LARGEST = 10_000  # side of the largest matrix that is solved: 800 MB in float64
NOTHING = 1e-12  # share of the largest variance below which a direction has none

FITTED = ("mean_", "components_", "explained_variance_", "explained_variance_ratio_")


class PCA(Reduction):
    """Principal component analysis, exact, in float64, with one pass for the mean and one for the covariance.

    Memory is that of the covariance `(D, D)`, however many points there are; for fewer points than features it is
    that of their products `(N, N)`. `partial_fit` learns from one part of the points after another and gives what
    `fit` gives on all of them. Signs are such that the largest entry of a component is positive.

    Fitted: `mean_ (D,)`, `components_ (n_components, D)`, `explained_variance_` and its share of all variance,
    `explained_variance_ratio_`, both `(n_components,)`; float64.

    Args:
        whiten: scale every coordinate to unit variance on the fitted points; one without variance stays 0.
        seed: changes nothing, since the solution is exact; it is there as all reductions have it.

    Example:
        >>> points = torch.tensor([[3.0, 4.0], [-3.0, -4.0], [0.4, -0.3], [-0.4, 0.3]])
        >>> PCA(n_components=1).fit_transform(points)[:2].round(3).tolist()
        [[5.0], [-5.0]]
    """

    def __init__(self, n_components: int = 2, whiten: bool = False, seed: int = 0) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.seed = seed

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> Self:
        """Find the components of vectors `(N, D)`, N more than `n_components`.

        Raises:
            ValueError: as `read`; or both N and D are above 10,000.
        """
        x = self.read(X, fitting=True)
        wide = x.shape[1] > len(x)
        mean, scatter = _moments(x, products=wide)
        self._moments: Sums | None = None if wide else (len(x), mean, scatter)
        self._solve(mean, scatter, len(x), x if wide else None)
        return self

    def partial_fit(self, X: ArrayLike | Tensor, y: object = None) -> Self:
        """Learn from further vectors `(N, D)`; the first of them must be more than `n_components`.

        Each call solves for the components anew, so give thousands of points at a time.

        Raises:
            ValueError: as `fit`; or this PCA was loaded, or fitted on fewer points than features: no sums to add to.
        """
        first = not hasattr(self, "_moments")
        if not first and self._moments is None:
            raise ValueError("this PCA kept its components alone and cannot learn on: fit a new one on all points")
        x = self.read(X, fitting=first)
        if x.shape[1] > LARGEST:
            raise ValueError(
                f"partial_fit of PCA reads at most {LARGEST:,} features, not {x.shape[1]:,}: take smaller ones"
            )
        count, mean, scatter = _together(None if first else self._moments, (len(x), *_moments(x)))
        self._moments = count, mean, scatter
        self._solve(mean, scatter, count)
        return self

    def transform(self, X: ArrayLike | Tensor) -> Coordinates:
        """Coordinates `(N, n_components)`: products with the components, float32."""
        x = self.read(X).to(self.mean_.device)
        scale = self._scale()
        parts = [(part.to(self.mean_) - self.mean_) @ self.components_.T * scale for part in x.split(ROWS)]
        return coordinates(torch.cat(parts).float())

    def check(self, count: int, width: int) -> None:
        """Raise ValueError, before any work, unless `count` vectors of `width` can be reduced as asked."""
        super().check(count, width)
        if min(count, width) > LARGEST:
            raise ValueError(
                f"PCA of {count:,} points of {width:,} features needs a matrix of side {min(count, width):,}, at most "
                f"{LARGEST:,}: give fewer points, or the features of an encoder"
            )

    def fewest_points(self) -> int:
        """One more than components: N points span N − 1 directions."""
        return self.n_components + 1

    def fewer_hint(self) -> str:
        """How to do with fewer points."""
        return ", or set n_components lower"

    def state(self) -> dict[str, Tensor]:
        """Mean, components and variances."""
        check_is_fitted(self)
        return {name: getattr(self, name).cpu().contiguous() for name in FITTED}

    def load_state(self, state: Mapping[str, Tensor]) -> Self:
        """Become the fitted PCA that wrote `state`."""
        for name in FITTED:
            setattr(self, name, state[name])
        self._moments = None
        self.n_features_in_ = self.components_.shape[1]
        self._n_features_out = self.n_components
        return self

    def to(self, device: str | torch.device) -> Self:
        """Move the components; vectors are reduced on that device, wherever they come from."""
        for name in FITTED:
            value = getattr(self, name)
            setattr(self, name, value.float().to(device) if torch.device(device).type == "mps" else value.to(device))
        return self

    def _scale(self) -> Tensor:
        variance = self.explained_variance_
        if not self.whiten:
            return torch.ones_like(variance)
        return torch.where(variance > NOTHING * variance[0], variance.rsqrt(), 0.0)

    def _solve(self, mean: Tensor, scatter: Tensor, count: int, x: Tensor | None = None) -> None:
        """Components of a covariance times `count − 1`, `(D, D)`; or, with x `(N, D)`, of its products `(N, N)`."""
        values, vectors = torch.linalg.eigh(scatter)  # ascending
        values, vectors = values.flip(0)[: self.n_components].clamp_min(0), vectors.flip(1)[:, : self.n_components]
        axes = vectors.T
        if x is not None:  # XXᵀ u = λ u, so that Xᵀ u / √λ is a component
            axes = sum(
                (u.T @ (_double(part) - mean) for u, part in zip(vectors.split(ROWS), x.split(ROWS), strict=True)),
                torch.zeros(1, dtype=mean.dtype, device=mean.device),
            )
            axes = torch.linalg.qr(axes.T).Q.T  # also where λ is 0
        largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
        self.mean_, self.components_ = mean, (axes * torch.where(largest < 0, -1.0, 1.0)).contiguous()
        self.explained_variance_ = values / (count - 1)
        self.explained_variance_ratio_ = values / scatter.trace()


def _moments(x: Tensor, products: bool = False) -> tuple[Tensor, Tensor]:
    """Mean `(D,)` and, about it, the sum of xxᵀ `(D, D)` or, as `products`, those of all pairs `(N, N)`; float64."""
    parts = x.split(ROWS)
    mean = torch.stack([_double(part).sum(0) for part in parts]).sum(0) / len(x)
    if products:
        centred = _double(x) - mean
        return mean, centred @ centred.T
    total = torch.zeros(x.shape[1], x.shape[1], dtype=mean.dtype, device=mean.device)
    for part in parts:
        centred = _double(part) - mean
        total.addmm_(centred.T, centred)
    return mean, total


Sums = tuple[int, Tensor, Tensor]  # count, mean (D,), scatter about it (D, D)


def _together(a: Sums | None, b: Sums) -> Sums:
    """The sums of two sets of points (Chan et al. 1979)."""
    if a is None:
        return b
    count = a[0] + b[0]
    apart = b[1] - a[1]
    scatter = a[2] + b[2] + torch.outer(apart, apart) * (a[0] * b[0] / count)
    return count, a[1] + apart * (b[0] / count), scatter


def _double(rows: Tensor) -> Tensor:
    """In float64, on the CPU where the device has none."""
    return (rows.cpu() if rows.device.type == "mps" else rows).double()
