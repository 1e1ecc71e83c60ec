"""UMAP, by umap-learn."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_transfer.downstream.reductions.reference_map import ReferenceMap
from ssl_transfer.downstream.reductions.settling import settle
from ssl_transfer.downstream.vectors import check_real, check_whole, seed_of

PLACING_EPOCHS = 100


class UMAP(ReferenceMap):
    """Uniform manifold approximation and projection (McInnes et al. 2018, https://arxiv.org/abs/1802.03426).

    umap-learn arranges the points; the neighbours are exact. New points are placed by the forces that its `transform`
    places them by, each alone, but with draws that rounding does not change (`settle`); the one exception are points
    with all neighbours at about the same place, whose reach has a floor from the mean distance in the batch. The import
    of umap-learn takes seconds.

    Args:
        n_neighbors: of a point, itself counted: more of them show more of the whole, and less of the detail.
        min_dist: how close points may lie, of about 10 that the map measures.
        metric: `euclidean` or `cosine`.
        epochs: of the arrangement; None for 500, or 200 of more than 10,000 points. New points take a third, or 100.

    Example:
        >>> UMAP().get_params()["n_neighbors"]
        15
    """

    package = "umap-learn"
    module = "umap"
    most_points: ClassVar[int | None] = 200_000  # exact neighbours take time by the square of the points

    def __init__(
        self,
        n_components: int = 2,
        n_neighbors: int = 15,
        min_dist: float = 0.1,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        epochs: int | None = None,
        seed: int = 0,
    ) -> None:
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.min_dist = min_dist
        self.metric = metric
        self.epochs = epochs
        self.seed = seed

    def check(self, count: int, width: int) -> None:
        """Raise ValueError, before any work, unless `count` vectors of `width` can be reduced as asked."""
        check_whole(self, "n_components", 1)
        check_whole(self, "n_neighbors", 2, rule="counts the point itself and must be")
        check_whole(self, "epochs", 3, none="for the usual number")
        check_real(self, "min_dist", 0, 1, rule="must lie in 0 to 1")
        super().check(count, width)

    def fewest_points(self) -> int:
        """One more than neighbours, and two more than components."""
        return max(self.n_neighbors + 1, self.n_components + 2)

    def fewer_hint(self) -> str:
        """How to do with fewer points."""
        return ", or set n_neighbors and n_components below their number"

    def arrange(self, x: Tensor) -> NDArray[Any]:
        """Coordinates of vectors `(N, D)`, by umap-learn."""
        indices, distances = self.neighbours(x, self.n_neighbors - 1)
        itself = np.arange(len(x))[:, None]
        made = self.library("umap").UMAP(
            n_neighbors=self.n_neighbors,
            n_components=self.n_components,
            min_dist=self.min_dist,
            n_epochs=self.epochs,
            random_state=seed_of(self.seed),
            n_jobs=1,
            precomputed_knn=(
                np.concatenate([itself, indices], axis=1),
                np.concatenate([np.zeros_like(distances[:, :1]), distances], axis=1),
            ),
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "precomputed_knn")  # it brings no index of umap-learn's, nor needs one
            warnings.filterwarnings("ignore", "Graph is not fully connected")  # of clusters far apart
            warnings.filterwarnings("ignore", "Spectral initialisation failed")  # it takes a random one
            return made.fit_transform(x.numpy())

    def place(self, x: Tensor) -> NDArray[Any]:
        """Coordinates of new vectors `(Q, D)`: the mean of their neighbours', then settled with these fixed."""
        functions = self.library("umap.umap_")
        epochs = PLACING_EPOCHS if self.epochs is None else self.epochs // 3
        indices, distances = self.neighbours(self.vectors_, self.n_neighbors, x)
        indices = indices.astype(np.int32)
        sigmas, rhos = functions.smooth_knn_dist(distances, float(self.n_neighbors), local_connectivity=0.0)
        _, _, weights, _ = functions.compute_membership_strengths(indices, distances, sigmas, rhos, bipartite=True)
        weights = torch.from_numpy(weights.reshape(indices.shape))
        shares = weights / weights.sum(1, keepdim=True)
        near = torch.from_numpy(indices).long()
        start = (shares[..., None] * self.coordinates_[near]).sum(1)
        curve = functions.find_ab_params(1.0, self.min_dist)
        strengths = weights / weights.amax(1, keepdim=True)
        return settle(start, self.coordinates_, near, strengths, curve, epochs, seed_of(self.seed)).numpy()
