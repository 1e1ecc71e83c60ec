"""t-SNE, by openTSNE."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_transfer.downstream.reductions.reference_map import ReferenceMap
from ssl_transfer.downstream.vectors import check_real, check_whole, seed_of

MANY = 10_000  # from so many fitted points on, forces come from a grid (FFT), below from a tree (Barnes and Hut)
PLACING_PERPLEXITY = 5.0


class TSNE(ReferenceMap):
    """t-distributed stochastic neighbour embedding (van der Maaten and Hinton 2008), in one or two dimensions.

    openTSNE (Poličar et al. 2024, https://doi.org/10.18637/jss.v109.i03) arranges the points, from their principal
    components on; the neighbours are exact. New points are placed by its `transform`, each by the fitted ones alone.

    Args:
        perplexity: about how many neighbours count; three times as many are looked at.
        metric: `euclidean` or `cosine`.
        iterations: of the arrangement, after 250 with exaggerated attraction.

    Example:
        >>> TSNE(n_components=3).fit(torch.zeros(100, 8))
        Traceback (most recent call last):
        ValueError: TSNE: n_components must be 1 or 2, not 3: for more take UMAP or PCA
    """

    package = "openTSNE"
    module = "openTSNE"
    most_points: ClassVar[int | None] = 200_000  # exact neighbours take time by the square of the points

    def __init__(
        self,
        n_components: int = 2,
        perplexity: float = 30.0,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        iterations: int = 500,
        seed: int = 0,
    ) -> None:
        self.n_components = n_components
        self.perplexity = perplexity
        self.metric = metric
        self.iterations = iterations
        self.seed = seed

    def check(self, count: int, width: int) -> None:
        """Raise ValueError, before any work, unless `count` vectors of `width` can be reduced as asked."""
        if self.n_components not in (1, 2):
            raise ValueError(f"TSNE: n_components must be 1 or 2, not {self.n_components!r}: for more take UMAP or PCA")
        check_whole(self, "iterations", 1)
        check_real(self, "perplexity", -math.inf)
        super().check(count, width)
        check_real(self, "perplexity", 1)

    def fewest_points(self) -> int:
        """One more than the neighbours that are looked at."""
        return max(2, int(3 * self.perplexity) + 1)

    def fewer_hint(self) -> str:
        """How to do with fewer points."""
        return ", or set perplexity below a third of their number"

    def arrange(self, x: Tensor) -> NDArray[Any]:
        """Coordinates of vectors `(N, D)`, by openTSNE, centred as its `transform` would centre them."""
        library, affinity = self.library("openTSNE"), self.library("openTSNE.affinity")
        known = self.library("openTSNE.nearest_neighbors").PrecomputedNeighbors(
            *self.neighbours(x, int(3 * self.perplexity))
        )
        made = library.TSNE(
            n_components=self.n_components,
            n_iter=self.iterations,
            negative_gradient_method=_forces(len(x)),
            initialization="pca",
            random_state=seed_of(self.seed),
            n_jobs=torch.get_num_threads(),
        )
        near = affinity.PerplexityBasedNN(perplexity=self.perplexity, knn_index=known, n_jobs=torch.get_num_threads())
        found = np.asarray(made.fit(x.numpy(), affinities=near))
        return found - (found.max(0) + found.min(0)) / 2

    def place(self, x: Tensor) -> NDArray[Any]:
        """Coordinates of new vectors `(Q, D)`, by openTSNE, with the fitted ones fixed."""
        embedding = self.library("openTSNE").TSNEEmbedding(
            self.coordinates_.double().numpy(),
            _NearFitted(self),
            negative_gradient_method=_forces(len(self.vectors_)),
            random_state=seed_of(self.seed),
            n_jobs=torch.get_num_threads(),
        )
        return np.asarray(embedding.transform(x, perplexity=min(PLACING_PERPLEXITY, self.perplexity)))


class _NearFitted:
    """How near new vectors are to the fitted ones, asked as openTSNE asks its affinities."""

    def __init__(self, fitted: TSNE) -> None:
        self.fitted = fitted
        self.P = fitted.coordinates_  # only its length is asked for

    def to_new(self, data: Tensor, perplexity: float, return_distances: bool = True) -> tuple[Any, Any, Any]:
        """Probabilities, sparse `(Q, N)`, and indices and distances of the nearest of the fitted vectors."""
        indices, distances = self.fitted.neighbours(self.fitted.vectors_, int(3 * perplexity), data)
        near = self.fitted.library("openTSNE.affinity").joint_probabilities_nn(
            indices,
            distances,
            [perplexity],
            symmetrize=False,
            normalization="point-wise",
            n_reference_samples=len(self.fitted.vectors_),
            n_jobs=torch.get_num_threads(),
        )
        return near, indices, distances


def _forces(fitted: int) -> str:
    return "fft" if fitted >= MANY else "bh"
