"""Gaussian smoothing of anomaly maps."""

from __future__ import annotations

import torch
from torch import Tensor


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Maps `(N, h, w)` blurred with a Gaussian of `sigma` cells, whose weights sum to one at the borders too.

    >>> smooth(torch.ones(1, 4, 6), 2.0).allclose(torch.ones(1, 4, 6))
    True
    """
    if sigma == 0:
        return maps
    down, across = (_weights(size, sigma).to(maps) for size in maps.shape[1:])
    return torch.stack([down @ one @ across.T for one in maps]) if len(maps) else maps


def _weights(size: int, sigma: float) -> Tensor:
    """Row i holds the weights `(size,)` of the cells about cell i."""
    place = torch.arange(size, dtype=torch.float64)
    weights = (-((place[:, None] - place) ** 2) / (2 * sigma**2)).exp()
    return weights / weights.sum(1, keepdim=True)
