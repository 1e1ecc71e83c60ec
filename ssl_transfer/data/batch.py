"""What a loader yields."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Images as they lie in the store, with what is known about them.

    Scaling, normalisation and views are made on the device by the module that wants them.
    """

    images: Tensor  # uint8 (B, C, H, W)
    targets: Tensor  # int64 (B,) classes, -1 none | float32 (B,), NaN none | float32 (B, K) multi-hot, NaN none
    index: Tensor  # type: ignore[assignment]  # int64 (B,), row in the store; hides tuple.index
    masks: Tensor | None = None  # uint8 (B, 1, H, W): 0 background, 1 marked
