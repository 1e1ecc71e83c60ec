"""Clusters about centres."""

from __future__ import annotations

import warnings
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from sklearn import cluster
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from ssl_transfer.downstream.clusterings.base import Assignment, Clustering, by_size, check_number, drawn
from ssl_transfer.downstream.vectors import seed_of
from ssl_transfer.evaluation.clustering import silhouette

STARTS = 20  # of which the best goes on
TRIALS = 5  # starts of each number of clusters that is tried
SAMPLE = 5000  # points that starts are compared on, and numbers of clusters
ROWS = 65_536  # points assigned at once


class KMeans(Clustering):
    """Clusters about centres, each point in that of the nearest (Lloyd 1982; k-means++, Arthur and Vassilvitskii 2007).

    Of twenty starts on a sample the best goes on with all points. A number of clusters that is not given is the one of
    the highest mean silhouette (Rousseeuw 1987) on a sample; where clusters lie in few large groups, the silhouette
    prefers the groups: look at `choice_`. Samples are of 5,000 points.

    Args:
        n_clusters: how many; None tries 2 to `most`.
        most: the largest number that is tried.
        normalise: bring each vector to length one first, so that only its direction counts.
        seed: of the starts and of the points that are drawn.

    Example:
        >>> x = torch.cat([torch.randn(50, 2) + 20 * k for k in range(3)])
        >>> KMeans().fit(x).n_clusters_
        3
    """

    belonging: ClassVar[Literal["distance", "probability"]] = "distance"
    chosen_by: ClassVar[str] = "silhouette"
    centres_: Tensor

    def __init__(self, n_clusters: int | None = None, most: int = 20, normalise: bool = False, seed: int = 0) -> None:
        self.n_clusters = n_clusters
        self.most = most
        self.normalise = normalise
        self.seed = seed

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> Self:
        """Find the centres of clusters of vectors `(N, D)`.

        Raises:
            ValueError: an argument outside its range, fewer points, or fewer that differ, than clusters, NaN.
        """
        x = self._prepared(self.read(X, fitting=True)).cpu()
        self.choice_ = self._scores(drawn(x, SAMPLE, self.seed)) if self.n_clusters is None else {}
        wanted = self.n_clusters if self.n_clusters is not None else max(self.choice_, key=lambda k: self.choice_[k])
        centres = self._centres(drawn(x, max(SAMPLE, 10 * wanted), self.seed), wanted, STARTS)
        found = cluster.KMeans(wanted, init=centres.numpy(), n_init=1).fit(x.numpy())
        self.centres_ = torch.from_numpy(found.cluster_centers_[by_size(found.labels_, wanted)])
        self.n_clusters_ = len(self.centres_)
        self.labels_ = self._nearest(x).labels
        return self

    def check(self, count: int, width: int) -> None:
        check_number(self)
        super().check(count, width)

    def fewest_points(self) -> int:
        return 3 if self.n_clusters is None else max(2, self.n_clusters)

    def fewer_hint(self) -> str:
        return ", or set n_clusters lower" if self.n_clusters is not None else ""

    def to(self, device: str | torch.device) -> Self:
        self.centres_ = self.centres_.to(device)
        return self

    def _scores(self, x: Tensor) -> dict[int, float]:
        """The mean silhouette of each number of clusters, as far as there are so many points that differ."""
        scores: dict[int, float] = {}
        for k in range(2, min(self.most, len(x) - 1) + 1):
            try:
                centres = self._centres(x, k, TRIALS)
            except ValueError:
                break
            score = silhouette(x, torch.cdist(x, centres).argmin(1), seed=self.seed)
            scores[k] = -1.0 if score is None else score
        return scores or {2: -1.0}

    def _centres(self, x: Tensor, k: int, starts: int) -> Tensor:
        """The centres `(k, D)` of the best of so many starts."""
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Number of distinct clusters", category=ConvergenceWarning)
            try:
                found = cluster.KMeans(k, n_init=starts, random_state=seed_of(self.seed)).fit(x.numpy())
            except ConvergenceWarning as error:
                raise ValueError(
                    f"KMeans: n_clusters is {k} and fewer of the {len(x)} vectors differ: set n_clusters lower"
                ) from error
        return torch.from_numpy(found.cluster_centers_)

    def _assign(self, x: Tensor) -> Assignment:
        return self._nearest(self._prepared(x.to(self.centres_.device)))

    def _nearest(self, x: Tensor) -> Assignment:
        """Exact distances, whatever is given together."""
        parts = [
            torch.cdist(part, self.centres_, compute_mode="donot_use_mm_for_euclid_dist").min(1)
            for part in x.split(ROWS)
        ]
        distances = torch.cat([part.values for part in parts]).cpu().numpy()
        return Assignment(torch.cat([part.indices for part in parts]).cpu().numpy(), distances, -distances)

    def _prepared(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) if self.normalise else x
