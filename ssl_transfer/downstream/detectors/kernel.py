"""Gaussian kernels between two sets of vectors, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2**22  # kernels held at once


def width_of(features: Tensor) -> float:
    """D · variance of all entries of features `(N, D)`: a squared length that scales as the features do."""
    return features.shape[1] * float(features.double().var(correction=0))


def log_kernels(queries: Tensor, bank: Tensor, gamma: float) -> Iterator[tuple[int, Tensor]]:
    """−gamma · ‖q − b‖² in blocks `(rows, N)` of queries `(Q, D)`, each with the number of its first query.

    Both sets are float64 and lie about the origin, so that the matrix form of the distance is exact enough.
    """
    assert queries.dtype == bank.dtype == torch.float64, "the matrix form loses digits"
    norms = bank.square().sum(1)
    rows = max(1, BLOCK // len(bank))
    for start in range(0, len(queries), rows):
        part = queries[start : start + rows]
        squared = torch.addmm(norms, part, bank.T, alpha=-2).add_(part.square().sum(1, keepdim=True)).clamp_(min=0)
        yield start, squared.mul_(-gamma)
