"""What all clusterings share: scikit-learn's manners, representatives, and a state made of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ssl_transfer.downstream.vectors import check_varied, check_whole, read_vectors

Labels = NDArray[np.int64]
NOISE = -1
MINUTES = 10  # that a fit may take on a processor core


class Assignment(NamedTuple):
    """Where N vectors belong.

    labels: of their clusters, int64 `(N,)`; −1 is noise.
    belonging: how well they do, float32 `(N,)`: a distance or a probability, as the clustering's `belonging` says.
    typical: how typical they are of their cluster, float32 `(N,)`, on any scale; the most typical represent it.
    """

    labels: Labels
    belonging: NDArray[np.float32]
    typical: NDArray[np.float32]


class Clustering(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the clusterings: groups of vectors `(N, D)`, found without labels.

    `fit` finds the clusters and sets `labels_`, int64 `(N,)`, and `n_clusters_`; `predict` gives new vectors the
    cluster that they fall into. Clusters are 0, 1, …; −1 is noise. Attributes ending in `_` are tensors, numbers,
    `labels_`, and `choice_`: the score of each number of clusters that was tried, empty where the number was given.

    A subclass checks what it is given in `check` before any work, sets its attributes in `fit`, and gives `_assign`.
    """

    belonging: ClassVar[Literal["distance", "probability"]]
    """What tells how well a vector belongs to its cluster: low is well for a distance, high for a probability."""

    chosen_by: ClassVar[str] = ""
    """The score in `choice_`; empty of a clustering that finds the number of clusters by itself."""

    labels_: Labels
    n_clusters_: int
    choice_: dict[int, float]
    n_features_in_: int

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> Self:
        """Find clusters of vectors `(N, D)`; y is ignored."""
        raise NotImplementedError

    def predict(self, X: ArrayLike | Tensor) -> Labels:
        """The clusters of vectors `(N, D)`, int64 `(N,)`; −1 is noise."""
        return self.assign(X).labels

    def assign(self, X: ArrayLike | Tensor) -> Assignment:
        """The clusters of vectors `(N, D)`, and how well each belongs."""
        return self._assign(self.read(X))

    def representatives(self, X: ArrayLike | Tensor, count: int = 9) -> Labels:
        """Rows of X `(N, D)` that are most typical of each cluster, int64 `(n_clusters_, count)`, best first.

        −1 where a cluster has no more.
        """
        found = self.assign(X)
        rows = np.full((self.n_clusters_, count), -1, dtype=np.int64)
        order = np.argsort(-found.typical, kind="stable")
        for cluster in range(self.n_clusters_):
            members = order[found.labels[order] == cluster][:count]
            rows[cluster, : len(members)] = members
        return rows

    def check(self, count: int, width: int) -> None:
        """Raise ValueError, before any work, unless `count` vectors of `width` can be clustered as asked."""
        needed = self.fewest_points()
        if count < needed:
            raise ValueError(
                f"{type(self).__name__} needs at least {needed} points with these settings, got n_samples={count}: "
                f"give more images{self.fewer_hint()}"
            )
        limit = self.most_points(width)
        if limit is not None and count > limit:
            raise ValueError(
                f"{type(self).__name__} would take more than {MINUTES} minutes for {count:,} points of {width} "
                f"numbers, at most {limit:,} are fine: cluster the coordinates of a Reducer, fit on a part of the "
                f"images, or take {self.quicker()}"
            )

    def fewest_points(self) -> int:
        """How many points a fit needs with these settings."""
        return 2

    def fewer_hint(self) -> str:
        """How to do with fewer points, after "give more images"."""
        return ""

    def most_points(self, width: int) -> int | None:
        """How many points of `width` numbers can be clustered within MINUTES; None: any number."""
        return None

    def quicker(self) -> str:
        """What takes less time."""
        return "KMeans"

    def state(self) -> dict[str, Tensor]:
        """All that was fitted, as tensors on the CPU: with `get_params()` it rebuilds the clustering; no pickle."""
        check_is_fitted(self, "labels_")
        names = [name for name in vars(self) if name.endswith("_") and name != "feature_names_in_"]
        return {name: _as_tensor(getattr(self, name)) for name in names}

    def load_state(self, state: Mapping[str, Tensor]) -> Self:
        """Become the fitted clustering that wrote `state`, whose arguments this one must share."""
        for name, value in state.items():
            setattr(self, name, value.item() if value.ndim == 0 else value)
        self.labels_ = state["labels_"].numpy()
        self.choice_ = {int(k): score for k, score in state["choice_"].tolist()}
        return self

    def to(self, device: str | torch.device) -> Self:
        """Move what was fitted, where the method can work on a device; others stay on the CPU."""
        return self

    # for subclasses

    def read(self, X: ArrayLike | Tensor, fitting: bool = False) -> Tensor:
        """Vectors as a finite float32 tensor `(N, D)`; when fitting, they are checked.

        Raises:
            ValueError: `check`, all rows alike (when fitting), another width, NaN or infinite values.
        """
        if not fitting:
            check_is_fitted(self, "labels_")
        x = read_vectors(self, X, fitting)
        if fitting:
            self.check(*x.shape)
            check_varied(x, type(self).__name__)
        return x

    def _assign(self, x: Tensor) -> Assignment:
        raise NotImplementedError


def check_number(clustering: Clustering) -> None:
    """Raise ValueError unless `n_clusters` is 1 or more, or None, `most` is 2 or more and `seed` 0 or more."""
    check_whole(clustering, "n_clusters", 1, none="to have it chosen")
    if clustering.n_clusters is None:
        check_whole(clustering, "most", 2, rule="is the largest number of clusters that is tried,")
    check_whole(clustering, "seed", 0)


def by_size(labels: NDArray[np.integer], count: int) -> Labels:
    """The numbers of `count` clusters, the largest first.

    >>> by_size(np.array([0, 1, 1, -1]), 2)
    array([1, 0])
    """
    return np.argsort(-np.bincount(labels[labels >= 0], minlength=count), kind="stable")


def drawn(x: Tensor, most: int, seed: int) -> Tensor:
    """At most so many rows of x `(N, D)`, drawn by seed, in their order."""
    if len(x) <= most:
        return x
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:most].sort().values
    return x[rows.to(x.device)]


def _as_tensor(value: Any) -> Tensor:
    if isinstance(value, dict):
        return torch.tensor([[float(k), float(v)] for k, v in value.items()], dtype=torch.float64).reshape(-1, 2)
    return torch.as_tensor(value, dtype=torch.float64 if isinstance(value, float) else None).cpu().clone()
