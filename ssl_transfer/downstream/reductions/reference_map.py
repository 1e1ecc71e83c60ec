"""Maps that keep the fitted points, and place new ones among them."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ssl_transfer.downstream.reductions.base import METRICS, Coordinates, Reduction, coordinates
from ssl_transfer.downstream.reductions.recognised import Recognised
from ssl_transfer.evaluation.neighbours import nearest


class ReferenceMap(Reduction):
    """Base of the maps that a library arranges: they have no formula for new points, but places among the fitted.

    Fitted: `vectors_ (N, D)`, of unit length where the metric is cosine, and `coordinates_ (N, n_components)`, both
    float32. New points are placed by the fitted ones alone, never by each other, as the library places them. A vector
    that was fitted keeps its place, also where rounding changed it, so that `fit_transform(X)` is `transform(X)`; where
    several fitted vectors are equal, all get the place of the first.

    A subclass has the argument `metric` and names its library, arranges points in `arrange`, and places in `place`.
    """

    streams: ClassVar[bool] = False

    package: ClassVar[str]
    """The library, as `pip` and Python name it."""

    module: ClassVar[str]

    metric: str
    vectors_: Tensor
    coordinates_: Tensor

    def arrange(self, x: Tensor) -> NDArray[Any]:
        """Coordinates of vectors `(N, D)`."""
        raise NotImplementedError

    def place(self, x: Tensor) -> NDArray[Any]:
        """Coordinates of new vectors `(Q, D)`, none of which was fitted."""
        raise NotImplementedError

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> Self:
        """Arrange vectors `(N, D)`.

        Raises:
            ValueError: an argument outside its range, too few or too many points, NaN, or the library is not installed.
        """
        x = self._prepared(self.read(X, fitting=True))
        with _threads_kept():
            found = torch.from_numpy(coordinates(self.arrange(x)))
        if not bool(torch.isfinite(found).all()):
            raise ValueError(f"{type(self).__name__} found no place for some points: scale the features to about one")
        self._remember(x, found[_first_of_equals(x)])
        return self

    def fit_transform(self, X: ArrayLike | Tensor, y: object = None) -> Coordinates:
        """Arrange vectors `(N, D)`, and return their coordinates `(N, n_components)`."""
        return coordinates(self.fit(X).coordinates_.clone())

    def transform(self, X: ArrayLike | Tensor) -> Coordinates:
        """Coordinates `(Q, n_components)` of vectors `(Q, D)`: those of the fitted, places among them for others."""
        x = self._prepared(self.read(X))
        known = self._recognised.rows(x)
        new = known < 0
        found = self.coordinates_[known]
        if bool(new.any()):
            with _threads_kept():
                found[new] = torch.from_numpy(coordinates(self.place(x[new])))
        return coordinates(found)

    def check(self, count: int, width: int) -> None:
        """Raise ValueError, before any work, unless `count` vectors of `width` can be reduced as asked."""
        if importlib.util.find_spec(self.module) is None:
            raise ValueError(f"{type(self).__name__} needs {self.package}: pip install 'ssl_transfer[reduce]'")
        if self.metric not in METRICS:
            raise ValueError(f"{type(self).__name__}: metric must be euclidean or cosine, not {self.metric!r}")
        super().check(count, width)

    def state(self) -> dict[str, Tensor]:
        """The fitted vectors and their coordinates."""
        check_is_fitted(self)
        return {"vectors": self.vectors_.contiguous(), "coordinates": self.coordinates_.contiguous()}

    def load_state(self, state: Mapping[str, Tensor]) -> Self:
        """Become the fitted map that wrote `state`."""
        self._remember(state["vectors"], state["coordinates"])
        self.n_features_in_ = self.vectors_.shape[1]
        self._n_features_out = self.n_components
        return self

    # for subclasses

    def neighbours(self, bank: Tensor, k: int, queries: Tensor | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Indices, int64, and distances by the metric, float32, `(Q, k)`, of the nearest rows, as `nearest`."""
        found = nearest(bank, k, queries)
        distances, indices = found[0].numpy(), found[1].numpy()
        order = np.lexsort((indices, distances))  # equally near ones in their order, whatever the batch
        distances, indices = np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1)
        return indices, distances**2 / 2 if self.metric == "cosine" else distances

    def library(self, module: str) -> ModuleType:
        """A module of the library, imported at the first use; what it says about other packages is not repeated."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module(module)

    def _prepared(self, x: Tensor) -> Tensor:
        x = x.cpu() + 0.0  # a copy, where −0 is 0
        return F.normalize(x, dim=1) if self.metric == "cosine" else x.contiguous()

    def _remember(self, vectors: Tensor, places: Tensor) -> None:
        self.vectors_, self.coordinates_ = vectors, places
        self._recognised = Recognised(vectors)


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Numba and faiss set a number of threads that is torch's too, where all share one OpenMP."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _first_of_equals(x: Tensor) -> Tensor:
    """The first row that equals each row of x `(N, D)`, int64 `(N,)`."""
    first: dict[bytes, int] = {}
    return torch.tensor([first.setdefault(row.tobytes(), i) for i, row in enumerate(x.numpy())])
