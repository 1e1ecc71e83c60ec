"""Clusters where points lie densely, and noise between them."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn import cluster
from torch import Tensor

from ssl_transfer.downstream.clusterings.base import MINUTES, NOISE, Assignment, Clustering, by_size
from ssl_transfer.downstream.vectors import check_whole
from ssl_transfer.evaluation.neighbours import nearest

PAIR, NUMBER = 10e-9, 2e-9  # seconds of a pair of points, and of each number of them


class HDBSCAN(Clustering):
    """Clusters of any shape and number where points lie densely; the others are noise (Campello et al. 2013).

    A new vector takes the cluster of the nearest fitted point if it lies no farther from it than the last of the
    `min_samples` neighbours of that point, itself the first; otherwise it is noise. This approximates what a fit with
    it would have found. All fitted points are kept for this.

    In many dimensions hardly any region is dense, and each point is compared with each: cluster the coordinates of a
    `Reducer`.

    Args:
        min_cluster_size: smaller groups are noise; None: a hundredth of the points, at least 5.
        min_samples: neighbours within which a point's density is measured, more make more noise; None:
            `min_cluster_size`, at most 15.

    Example:
        >>> x = torch.cat([torch.randn(60 - 10 * k, 2) + 20 * k for k in range(3)])
        >>> HDBSCAN(min_cluster_size=10).fit(x).predict([[0.0, 0.0], [100.0, 0.0]])
        array([ 0, -1])
    """

    belonging: ClassVar[Literal["distance", "probability"]] = "probability"
    points_: Tensor
    reach_: Tensor
    probabilities_: Tensor

    def __init__(self, min_cluster_size: int | None = None, min_samples: int | None = None) -> None:
        self.min_cluster_size = min_cluster_size
        self.min_samples = min_samples

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> Self:
        """Find the clusters of vectors `(N, D)`.

        Raises:
            ValueError: an argument outside its range, fewer points than a cluster has, more than can be compared, NaN.
        """
        x = self.read(X, fitting=True)
        smallest, neighbours = self._sizes(len(x))
        found = cluster.HDBSCAN(min_cluster_size=smallest, min_samples=neighbours, copy=True).fit(x.cpu().numpy())
        self.points_ = x
        self.probabilities_ = torch.from_numpy(found.probabilities_).float()
        self.reach_ = nearest(x, max(1, neighbours - 1))[0][:, -1].cpu()  # scikit-learn counts the point itself
        self.n_clusters_ = int(found.labels_.max()) + 1
        rank = np.append(np.argsort(by_size(found.labels_, self.n_clusters_)), NOISE)  # noise is the last
        self.labels_ = rank[found.labels_].astype(np.int64)
        self.choice_ = {}
        return self

    def check(self, count: int, width: int) -> None:
        for name, least in (("min_cluster_size", 2), ("min_samples", 1)):
            check_whole(self, name, least, none="for a default")
        super().check(count, width)

    def fewest_points(self) -> int:
        return 1 + max(self.min_cluster_size or 5, self.min_samples or 1)

    def fewer_hint(self) -> str:
        return ", or set min_cluster_size lower"

    def most_points(self, width: int) -> int:
        return int(math.sqrt(60 * MINUTES / (PAIR + NUMBER * width)) // 1000 * 1000)

    def to(self, device: str | torch.device) -> Self:
        self.points_ = self.points_.to(device)
        return self

    def _sizes(self, count: int) -> tuple[int, int]:
        """Size of the smallest cluster and neighbours of the density, of `count` points."""
        smallest = self.min_cluster_size or max(5, count // 100)
        return smallest, self.min_samples or min(smallest, 15)

    def _assign(self, x: Tensor) -> Assignment:
        distances, rows = (found[:, 0].cpu() for found in nearest(self.points_, 1, x.to(self.points_.device)))
        labels = torch.from_numpy(self.labels_)[rows]
        labels[distances > self.reach_[rows]] = NOISE
        probability = torch.where(labels == NOISE, 0.0, self.probabilities_[rows]).numpy()
        return Assignment(labels.numpy(), probability, probability)
