"""The discrepancy against double loops and a closed form, and the test's level and power."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ssl_transfer.evaluation.kernel_distance import maximum_mean_discrepancy


def cloud(count: int, width: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_against_double_loops() -> None:
    first, second = cloud(9), cloud(6, seed=1) + 0.5
    rows = torch.cat([first, second]).tolist()
    distances = sorted(math.dist(a, b) for i, a in enumerate(rows) for b in rows[i + 1 :])
    sigma = distances[(len(distances) - 1) // 2]

    def mean(a: list[list[float]], b: list[list[float]], same: bool) -> float:
        values = [
            math.exp(-(math.dist(x, y) ** 2) / (2 * sigma**2))
            for i, x in enumerate(a)
            for j, y in enumerate(b)
            if not (same and i == j)
        ]
        return sum(values) / len(values)

    a, b = rows[:9], rows[9:]
    found = maximum_mean_discrepancy(first, second)
    assert found.bandwidth == pytest.approx(sigma, rel=1e-5)
    assert found.squared == pytest.approx(mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False), rel=1e-4)


def test_points_far_apart_are_two_over_the_kernel() -> None:
    """Two points each n times, at distance d = σ: 2 − 2 exp(−½)."""
    first, second = torch.zeros(20, 1), torch.full((30, 1), 4.0)
    found = maximum_mean_discrepancy(first, second)
    assert found.bandwidth == pytest.approx(4) and found.squared == pytest.approx(2 - 2 * math.exp(-0.5), rel=1e-5)
    assert found.p == pytest.approx(1 / 501)


def test_its_level_and_its_power() -> None:
    same = [maximum_mean_discrepancy(cloud(40, seed=s), cloud(30, seed=s + 500), 100, s).p for s in range(200)]
    assert 0.02 <= sum(p <= 0.05 for p in same) / 200 <= 0.10
    other = [maximum_mean_discrepancy(cloud(40, seed=s), cloud(30, seed=s + 500) + 0.7, 100, s).p for s in range(40)]
    assert sum(p <= 0.05 for p in other) >= 36


def test_too_few_and_all_alike() -> None:
    assert math.isnan(maximum_mean_discrepancy(cloud(1), cloud(5)).p)
    assert maximum_mean_discrepancy(torch.ones(5, 2), torch.ones(6, 2)).p == 1
