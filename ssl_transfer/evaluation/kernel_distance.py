"""Maximum mean discrepancy: whether two sets of features are of one distribution, by a test that permutes them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Discrepancy(NamedTuple):
    """What a permutation test found.

    Args:
        squared: unbiased estimate of the squared discrepancy, 0 to 2 up to noise; about 0, or below, for one
            distribution.
        p: how often a random division of the same rows lies as far apart, 1 / (1 + permutations) at the least.
        bandwidth: of the kernel.
    """

    squared: float
    p: float
    bandwidth: float


def maximum_mean_discrepancy(first: Tensor, second: Tensor, permutations: int = 500, seed: int = 0) -> Discrepancy:
    """The squared discrepancy of two sets `(N, D)` and `(M, D)` under a Gaussian kernel, and its p-value.

    k(x, y) = exp(−|x − y|² / 2σ²), σ the median distance of two rows that differ (Gretton et al. 2012, A kernel
    two-sample test, https://jmlr.org/papers/v13/gretton12a.html). Holds (N + M)² floats. NaN with fewer than two rows
    of either.

    >>> x = torch.arange(8.0)[:, None]
    >>> far = maximum_mean_discrepancy(x, x + 100)
    >>> far.squared > 0.5, far.p < 0.05, maximum_mean_discrepancy(x, x + 0.1).p > 0.5
    (True, True, True)
    """
    n, m = len(first), len(second)
    if min(n, m) < 2:
        return Discrepancy(torch.nan, torch.nan, torch.nan)
    rows = torch.cat([first, second]).float()
    squares = torch.cdist(rows, rows).square_()
    apart = squares[squares > 0]  # each pair twice
    bandwidth = apart.median().sqrt() if len(apart) else squares.new_ones(())
    kernel = squares.div_(-2 * bandwidth.square()).exp_()
    kernel.fill_diagonal_(0)  # no row with itself
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.arange(n + m), *(torch.randperm(n + m, generator=generator) for _ in range(permutations))]
    inside = torch.zeros(n + m, len(orders))
    inside.scatter_(0, torch.stack([order[:n] for order in orders], dim=1), 1.0)
    inside = inside.to(rows.device)  # (N + M, 1 + permutations): 1 in the first set
    seen = kernel @ inside
    within = (inside * seen).sum(0, dtype=torch.double)
    between = seen.sum(0, dtype=torch.double) - within
    others = kernel.sum(dtype=torch.double) - within - 2 * between
    found = within / (n * (n - 1)) + others / (m * (m - 1)) - 2 * between / (n * m)
    beaten = int((found[1:] >= found[0]).sum())
    return Discrepancy(float(found[0]), (1 + beaten) / (1 + permutations), float(bandwidth))
