"""What all detectors share: scikit-learn's manners, scores whose low end is abnormal, and a state made of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from ssl_transfer.downstream.vectors import check_finite, check_varied

Scores = NDArray[np.float64]


class Detector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the detectors: fitted on normal images alone, they score how normal an image is.

    `score_samples` gives float64 `(N,)`, low is abnormal; an image is an anomaly where it falls below `offset_`, which
    leaves a share `false_alarm_rate` of the fitted images below. Attributes ending in `_` are tensors or numbers.

    A subclass has the argument `false_alarm_rate`, sets its attributes in `fit`, and ends that with `set_offset`.
    """

    reads: ClassVar[Literal["features", "maps", "images"]] = "features"
    """What `fit` and `score_samples` take: features `(N, D)`, feature maps `(N, D, h, w)` or errors `(N, h, w)`."""

    false_alarm_rate: float
    offset_: float

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> Self:
        """Learn what is normal from N normal images; y is ignored."""
        raise NotImplementedError

    def score_samples(self, X: ArrayLike | Tensor) -> Scores:
        """How normal each image is, float64 `(N,)`: low is abnormal."""
        raise NotImplementedError

    def decision_function(self, X: ArrayLike | Tensor) -> Scores:
        """`score_samples − offset_`: negative for anomalies."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike | Tensor) -> NDArray[np.int64]:
        """−1 for anomalies, 1 for normal images, int64 `(N,)`."""
        return np.where(self.decision_function(X) < 0, -1, 1).astype(np.int64)

    def state(self) -> dict[str, Tensor]:
        """All that was fitted, as tensors on the CPU: with `get_params()` it rebuilds the detector, without pickle."""
        check_is_fitted(self)
        fitted = {name: value for name, value in vars(self).items() if _is_fitted_name(name)}
        return {name: torch.as_tensor(value, dtype=_number_type(value)).cpu().clone() for name, value in fitted.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> Self:
        """Become the fitted detector that wrote `state`, whose arguments this one must share."""
        for name, value in state.items():
            setattr(self, name, value.item() if value.ndim == 0 else value)
        return self

    def to(self, device: str | torch.device) -> Self:
        """Move what was fitted; images are scored on that device, wherever they come from."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    def set_offset(self, scores: Scores) -> None:
        """Set `offset_` from the scores of the fitted images, each as if it had not been fitted."""
        self.offset_ = float(np.quantile(scores, self.false_alarm_rate))

    def check_rate(self) -> None:
        """Raise ValueError unless `false_alarm_rate` is a share."""
        if not 0 <= self.false_alarm_rate < 1:
            raise ValueError(
                f"false_alarm_rate is the share of normal images that may fall below the threshold, at least 0 and "
                f"less than 1, not {self.false_alarm_rate}"
            )

    def read_features(self, X: ArrayLike | Tensor, fitting: bool = False, at_least: int = 1) -> Tensor:
        """Features as a finite tensor `(N, D)`, float32 or float64 as given, where the fitted tensors are.

        at_least: images needed for fitting.

        Raises:
            ValueError: too few images or all alike (when fitting), another width, NaN or infinite values.
        """
        if not fitting:
            check_is_fitted(self)
        x = self._tensor(X, fitting)
        if fitting:
            self.check_count(len(x), at_least)
        self.check_finite(x, "features")
        if fitting:
            self.check_varied(x)
            return x
        return x.to(self._device())

    def check_count(self, count: int, at_least: int) -> None:
        """Raise ValueError for fewer images than are needed."""
        if count < at_least:
            raise ValueError(
                f"{type(self).__name__} needs at least {at_least} normal images with these settings, got "
                f"n_samples={count}; give more images{self._fewer_hint()}"
            )

    def check_finite(self, x: Tensor, what: str) -> None:
        """Raise ValueError where a number is NaN or infinite; the first axis of x is that of the images."""
        check_finite(x, what)

    def check_varied(self, x: Tensor) -> None:
        """Raise ValueError where all rows of x `(N, D)` are the same."""
        check_varied(x, type(self).__name__)

    def _fewer_hint(self) -> str:
        return f", or set n_neighbors below {self.n_neighbors}" if hasattr(self, "n_neighbors") else ""

    def _tensor(self, X: ArrayLike | Tensor, fitting: bool) -> Tensor:
        if not isinstance(X, Tensor):
            array = validate_data(self, X, reset=fitting, dtype=[np.float64, np.float32], ensure_all_finite=False)
            return torch.tensor(array)
        if X.ndim != 2:
            raise ValueError(f"{type(self).__name__} reads features (N, D), not a tensor of shape {tuple(X.shape)}")
        validate_data(self, X, reset=fitting, skip_check_array=True)
        x = X.detach()
        if x.device.type == "mps":  # has no float64
            x = x.cpu()
        return x if x.dtype == torch.float64 else x.float()

    def _device(self) -> torch.device:
        return next((value.device for value in vars(self).values() if isinstance(value, Tensor)), torch.device("cpu"))


def scores_of(distances: Tensor) -> Scores:
    """Anomaly scores `(N,)`, of which high is abnormal, in scikit-learn's sign."""
    return -np.asarray(distances.detach().cpu().double().numpy(), dtype=np.float64)


def _is_fitted_name(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_") and name != "feature_names_in_"


def _number_type(value: Any) -> torch.dtype | None:
    return torch.float64 if isinstance(value, float) else None
