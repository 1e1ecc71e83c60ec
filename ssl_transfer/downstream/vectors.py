"""What all that is fitted on vectors asks of them, finite numbers and rows that differ, and of its own arguments."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import validate_data
from torch import Tensor

ABOVE_0, BELOW_1 = math.nextafter(0, 1), math.nextafter(1, 0)  # limits that are left out, for `check_real`


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


def check_whole(estimator: Any, name: str, least: int, none: str = "", rule: str = "must be") -> None:
    """Raise ValueError unless the argument `name` of an estimator is a whole number, `least` or more.

    none: what None is for, where it is allowed, as "for the usual number". rule: how the message goes on.
    """
    value = getattr(estimator, name)
    if value is None and none:
        return
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        rule = f"{rule} {least} or more" if whole else "must be a whole number"
        raise ValueError(
            f"{type(estimator).__name__}: {name} {rule}{f', or None {none}' if none else ''}, not {value!r}"
        )


def check_real(estimator: Any, name: str, least: float, most: float = math.inf, rule: str = "") -> None:
    """Raise ValueError unless the argument `name` of an estimator is a finite number in `least` to `most`.

    rule: how the message goes on; "must be 1 or more" where it is not given.
    """
    value = getattr(estimator, name)
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{type(estimator).__name__}: {name} must be a number, not {value!r}")
    if not least <= float(value) <= most:
        raise ValueError(f"{type(estimator).__name__}: {name} {rule or f'must be {least} or more'}, not {value!r}")


def seed_of(seed: int) -> int:
    """A seed, 0 or more, as NumPy and scikit-learn take it: a plain int below 2³²."""
    return int(seed) % 2**32
