"""What all reductions share: scikit-learn's manners, and a state made of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ssl_transfer.downstream.vectors import check_varied, check_whole, read_vectors

Coordinates = NDArray[np.float32]
METRICS = ("euclidean", "cosine")  # of the reductions that know neighbours


class Reduction(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the reductions: from vectors `(N, D)` to coordinates `(N, n_components)`, float32.

    `fit` learns from N vectors, `transform` places new ones. A subclass has the arguments `n_components` and
    `seed`, checks what it is given in `check` before any work, and sets its attributes, which end in `_`, in `fit`.
    """

    most_points: ClassVar[int | None] = None
    """How many points the method can be fitted on; None: any number."""

    streams: ClassVar[bool] = True
    """Whether `transform` is as quick on few vectors as on many."""

    n_components: int
    seed: int
    n_features_in_: int
    _n_features_out: int

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> Self:
        """Learn from vectors `(N, D)`; y is ignored."""
        raise NotImplementedError

    def transform(self, X: ArrayLike | Tensor) -> Coordinates:
        """Coordinates `(N, n_components)` of vectors `(N, D)`."""
        raise NotImplementedError

    def check(self, count: int, width: int) -> None:
        """Raise ValueError, before any work, unless `count` vectors of `width` can be reduced as asked."""
        name = type(self).__name__
        check_whole(self, "n_components", 1)
        check_whole(self, "seed", 0)
        if self.n_components > width:
            raise ValueError(
                f"{name}: n_components is {self.n_components} and there are only {width} features: ask for at most "
                f"{width}"
            )
        needed = self.fewest_points()
        if count < needed:
            raise ValueError(
                f"{name} needs at least {needed} points with these settings, got n_samples={count}: give more images"
                f"{self.fewer_hint()}"
            )
        if self.most_points is not None and count > self.most_points:
            raise ValueError(
                f"{name} can be fitted on {self.most_points:,} points at most, got {count:,}: fit it on a part of the "
                "images, or take ParametricMap or PCA"
            )

    def fewest_points(self) -> int:
        """How many points a fit needs with these settings."""
        return 2

    def fewer_hint(self) -> str:
        """How to do with fewer points, after "give more images"."""
        return f", or set n_neighbors below {self.n_neighbors}" if hasattr(self, "n_neighbors") else ""

    def state(self) -> dict[str, Tensor]:
        """All that was fitted, as tensors on the CPU: with `get_params()` it rebuilds the reduction, without pickle."""
        raise NotImplementedError

    def load_state(self, state: Mapping[str, Tensor]) -> Self:
        """Become the fitted reduction that wrote `state`, whose arguments this one must share."""
        raise NotImplementedError

    def to(self, device: str | torch.device) -> Self:
        """Move what was fitted, where the method can work on a device; others stay on the CPU."""
        return self

    # for subclasses

    def read(self, X: ArrayLike | Tensor, fitting: bool = False) -> Tensor:
        """Vectors as a finite float32 tensor `(N, D)` on the CPU or where it was; when fitting, they are checked.

        Raises:
            ValueError: `check`, all rows alike (when fitting), another width, NaN or infinite values.
        """
        if not fitting:
            check_is_fitted(self)
        x = read_vectors(self, X, fitting)
        if fitting:
            self.check(*x.shape)
            check_varied(x, type(self).__name__)
            self._n_features_out = self.n_components
        return x

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_n_features_out")


def coordinates(found: Any) -> Coordinates:
    """Coordinates as a float32 array."""
    if isinstance(found, Tensor):
        found = found.detach().cpu().numpy()
    return np.ascontiguousarray(found, dtype=np.float32)
