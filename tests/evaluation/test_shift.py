"""Distances with their floors, and what is left of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ssl_transfer.evaluation.shift import Figure, Space, discrepancy, distances


def cloud(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def test_one_distribution_is_at_its_floor() -> None:
    found = distances("features", cloud(400), cloud(300, seed=1), permutations=100)
    assert found.a_distance.low == 0 and found.a_distance.value < 0.3 and not found.a_distance.above
    assert abs(found.discrepancy.value) < 0.01 and found.p > 0.01
    assert found.frechet.low <= found.frechet.value <= found.frechet.high
    assert found.frechet.value == pytest.approx(found.frechet.floor, abs=0.05)


def test_two_distributions_are_above_it() -> None:
    found = distances("features", cloud(400), cloud(300, seed=1) + 2, permutations=100)
    assert found.a_distance.above and found.a_distance.value > 1.5
    assert found.discrepancy.above and found.frechet.above and found.p == pytest.approx(1 / 101)
    assert found.frechet.value == pytest.approx(16, rel=0.1)  # 4 · 2²
    assert found.a_distance.low < found.a_distance.value <= found.a_distance.high <= 2
    assert discrepancy(cloud(400), cloud(300, seed=1) + 2) == pytest.approx(found.discrepancy.value, abs=0.02)


def test_what_is_left_has_a_margin_for_noise() -> None:
    """A quarter of much, but no more than a twentieth; and of little what two halves of the source show."""
    nothing = Figure(0.0, 0.0, 0.0, 0.0, 0.0)

    def space(value: float, floor_high: float = 0.002) -> Space:
        return Space("features", nothing, nothing, Figure(value, value - 0.001, value + 0.001, 0.0, floor_high), 0, 1)

    assert space(0.1).explained(0.02) and not space(0.1).explained(0.03)
    assert space(0.9).explained(0.04) and not space(0.9).explained(0.06)
    assert space(0.004).explained(0.002) and not space(0.004).explained(0.003)
    assert not space(0.002).explained(0.0) and math.isnan(space(0.002).remaining(0.0))  # nothing above the floor
    assert not space(0.1).explained(math.nan)
    assert space(0.1).remaining(0.02) == pytest.approx(0.2) and space(0.1).remaining(-1.0) == 0
