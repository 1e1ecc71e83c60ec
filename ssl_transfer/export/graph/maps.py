"""Maps averaged over cells and smoothed, as products with small matrices: the same on every runtime."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def averaging(size: int, cells: int) -> Tensor:
    """Weights `(cells, size)` of adaptive average pooling along one axis.

    >>> averaging(3, 2)
    tensor([[0.5000, 0.5000, 0.0000],
            [0.0000, 0.5000, 0.5000]])
    """
    weights = torch.zeros(cells, size)
    for cell in range(cells):
        start, end = cell * size // cells, -(-(cell + 1) * size // cells)
        weights[cell, start:end] = 1 / (end - start)
    return weights


class Cells(nn.Module):
    """Maps `(…, h, w)` averaged over a grid of cells `(…, rows, columns)`."""

    down: Tensor
    across: Tensor

    def __init__(self, size: tuple[int, int], cells: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("down", averaging(size[0], cells[0]))
        self.register_buffer("across", averaging(size[1], cells[1]).T.contiguous())

    def forward(self, maps: Tensor) -> Tensor:
        """Averages."""
        return self.down @ maps @ self.across


class Smooth(nn.Module):
    """Maps `(B, h, w)` blurred as `detectors.smoothing.smooth` does; `sigma` 0 leaves them as they are."""

    down: Tensor
    across: Tensor

    def __init__(self, size: tuple[int, int], sigma: float) -> None:
        super().__init__()
        self.still = sigma == 0
        if not self.still:
            self.register_buffer("down", _gaussian(size[0], sigma))
            self.register_buffer("across", _gaussian(size[1], sigma).T.contiguous())

    def forward(self, maps: Tensor) -> Tensor:
        """Smoothed maps."""
        return maps if self.still else self.down @ maps @ self.across


def _gaussian(size: int, sigma: float) -> Tensor:
    place = torch.arange(size, dtype=torch.float64)
    weights = (-((place[:, None] - place) ** 2) / (2 * sigma**2)).exp()
    return (weights / weights.sum(1, keepdim=True)).float()
