"""What all that is fitted on vectors asks of them: numbers that are finite, rows that differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import validate_data
from torch import Tensor


def read_vectors(estimator: Any, X: ArrayLike | Tensor, fitting: bool) -> Tensor:
    """Vectors as a finite float32 tensor `(N, D)` on the CPU or where it was.

    estimator: of scikit-learn's manner; it remembers D when `fitting`, and otherwise D must be what it remembers.

    Raises:
        ValueError: another shape or width, NaN or infinite values.
    """
    if isinstance(X, Tensor):
        if X.ndim != 2:
            raise ValueError(f"{type(estimator).__name__} reads vectors (N, D), not a tensor of shape {tuple(X.shape)}")
        validate_data(estimator, X, reset=fitting, skip_check_array=True)
        x = X.detach().float()
    else:
        array = validate_data(estimator, X, reset=fitting, dtype=[np.float32, np.float64], ensure_all_finite=False)
        x = torch.tensor(np.ascontiguousarray(array)).float()
    check_finite(x)
    return x


def check_finite(x: Tensor, what: str = "features") -> None:
    """Raise ValueError where a number is NaN or infinite; the first axis of x is that of the images."""
    broken = ~torch.isfinite(x).flatten(1).all(1)
    if bool(broken.any()):
        kind = "NaN" if bool(torch.isnan(x).any()) else "inf"
        raise ValueError(
            f"the {what} of {int(broken.sum())} of {len(x)} images contain {kind} (the first is image "
            f"{int(broken.nonzero()[0])}); look at the encoder that gave them"
        )


def check_varied(x: Tensor, who: str) -> None:
    """Raise ValueError where all rows of x `(N, D)` are the same; who: cannot learn from them."""
    tolerance = 8 * torch.finfo(x.dtype).eps * x.abs().max()
    if bool(((x - x[0]).abs() <= tolerance).all()):
        raise ValueError(
            f"{who} cannot learn from constant features: all {len(x)} rows are the same; give images that differ, or "
            "another encoder"
        )
