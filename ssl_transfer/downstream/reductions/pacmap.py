"""PaCMAP, by pacmap."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_transfer.downstream.reductions.reference_map import ReferenceMap
from ssl_transfer.downstream.vectors import check_whole, seed_of

MID_NEAR, FURTHER = 0.5, 2.0  # pairs of each kind to one of neighbours
STATE = "preprocessing."


class PaCMAP(ReferenceMap):
    """Pairwise controlled manifold approximation (Wang et al. 2021, https://jmlr.org/papers/v22/20-1061.html).

    pacmap arranges the points, with faiss's approximate neighbours, so that a million of them can be fitted. Of more
    than 100 features it looks at 100 principal components. New points are placed as by its `transform`, each drawn to
    its neighbours among the fitted ones alone, but these are exact.

    Args:
        n_neighbors: pairs of near points, for each point; it has half as many mid-near and twice as many far pairs.
        metric: `euclidean` or `cosine`.
        iterations: of the last phase, after 100 and 100 of the first two.

    Example:
        >>> PaCMAP().get_params()["n_neighbors"]
        10
    """

    package = "pacmap"
    module = "pacmap"

    def __init__(
        self,
        n_components: int = 2,
        n_neighbors: int = 10,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        iterations: int = 250,
        seed: int = 0,
    ) -> None:
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.iterations = iterations
        self.seed = seed

    def check(self, count: int, width: int) -> None:
        """Raise ValueError, before any work, unless `count` vectors of `width` can be reduced as asked."""
        check_whole(self, "n_components", 1)
        check_whole(self, "n_neighbors", 1)
        check_whole(self, "iterations", 1)
        super().check(count, width)

    def fewest_points(self) -> int:
        """One more than the pairs of a point, and than components."""
        pairs = sum(round(self.n_neighbors * share) for share in (1, MID_NEAR, FURTHER))
        return max(pairs, self.n_components) + 1

    def fewer_hint(self) -> str:
        """How to do with fewer points."""
        return ", or set n_neighbors below two sevenths of their number"

    def arrange(self, x: Tensor) -> NDArray[Any]:
        """Coordinates of vectors `(N, D)`, by pacmap."""
        faiss = self.library("faiss")
        threads = faiss.omp_get_max_threads()
        library = self.library("pacmap.pacmap")
        logger = logging.getLogger("pacmap.pacmap")
        level = logger.level
        try:
            logger.setLevel(logging.ERROR)  # it warns of every seed
            made = library.PaCMAP(
                n_components=self.n_components,
                n_neighbors=self.n_neighbors,
                MN_ratio=MID_NEAR,
                FP_ratio=FURTHER,
                num_iters=self.iterations,
                random_state=seed_of(self.seed) % 2**31,
            )
            found = made.fit_transform(x.numpy())
        finally:
            logger.setLevel(level)
            faiss.omp_set_num_threads(threads)  # a seed sets one
        self._preprocessing = _Preprocessing.of(made)
        return found

    def place(self, x: Tensor) -> NDArray[Any]:
        """Coordinates of new vectors `(Q, D)`, by pacmap, with the fitted ones fixed."""
        read = self._preprocessing
        near = read.vectors(x.numpy())
        bank = torch.from_numpy(read.vectors(self.vectors_.numpy()))
        indices = self.neighbours(bank, self.n_neighbors, torch.from_numpy(near))[0]
        count, fitted = len(near), len(bank)
        itself = np.repeat(np.arange(fitted, fitted + count), self.n_neighbors)
        found, _ = self.library("pacmap.pacmap").pacmap_fit(
            near,
            self.coordinates_.numpy(),
            self.n_components,
            np.stack([itself, indices.flatten()], axis=1).astype(np.int32),
            1.0,
            (100, 100, self.iterations),
            None,
            False,
            False,
            [],
            read.is_pca,
            read,
        )
        return found[fitted:]

    def state(self) -> dict[str, Tensor]:
        """The fitted vectors and their coordinates, and what pacmap does to vectors first."""
        state = super().state()
        return state | {STATE + name: torch.from_numpy(value) for name, value in vars(self._preprocessing).items()}

    def load_state(self, state: Mapping[str, Tensor]) -> Self:
        """Become the fitted map that wrote `state`."""
        arrays = {name.removeprefix(STATE): value.numpy() for name, value in state.items() if name.startswith(STATE)}
        self._preprocessing = _Preprocessing(**arrays)
        return super().load_state(state)


@dataclass(frozen=True)
class _Preprocessing:
    """What pacmap does to vectors before it looks at them; arrays alone.

    Args:
        offset: taken away first, `(D,)`.
        scale: then divided by, `()`.
        components: `(n, D)`: of at most 100 features those that only the start of the map is made from; else the 100
            that stand for them.
        centre: `(D,)`, taken away before the components are.
        pca: `()`, whether the components stand for the features.
    """

    offset: NDArray[np.float32]
    scale: NDArray[np.float32]
    components: NDArray[np.float32]
    centre: NDArray[np.float32]
    pca: NDArray[np.bool_]

    @classmethod
    def of(cls, made: Any) -> Self:
        """As a fitted `pacmap.PaCMAP` has it."""
        components = np.ascontiguousarray(made.tsvd_transformer.components_, np.float32)
        offset = np.asarray(made.xmean, np.float32)
        if not made.pca_solution:
            offset = offset * np.float32(made.xmax) + np.float32(made.xmin)
        centre = np.asarray(getattr(made.tsvd_transformer, "mean_", np.zeros(components.shape[1])), np.float32)
        scale = np.asarray(1.0 if made.pca_solution else made.xmax, np.float32)
        return cls(offset, scale, components, centre, np.asarray(made.pca_solution))

    @property
    def is_pca(self) -> bool:
        """Whether the components stand for the features."""
        return bool(self.pca)

    def vectors(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors as pacmap looks at them, float32."""
        read = (x - self.offset) / self.scale
        return np.ascontiguousarray(self.transform(read) if self.is_pca else read, np.float32)

    def transform(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Components of vectors, asked as pacmap asks scikit-learn's."""
        return np.asarray((x - self.centre) @ self.components.T, np.float32)
