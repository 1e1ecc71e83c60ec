"""Placing among landmarks: on a landmark, between like ones, never between two groups; against loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_transfer.downstream.reductions.landmarks import NEAREST, POWER, STEPS, LandmarkNetwork


def network(vectors: Tensor, places: Tensor, unit: bool = False) -> LandmarkNetwork:
    """A network whose landmarks are given, in the vectors' own coordinates."""
    made = LandmarkNetwork(vectors.shape[1], len(vectors), places.shape[1], unit)
    made.landmarks.basis.copy_(torch.eye(vectors.shape[1]))
    made.landmarks.vectors.copy_(vectors)
    made.landmarks.places.data.copy_(places)
    return made


def slow_place(x: Tensor, vectors: Tensor, places: Tensor) -> Tensor:
    """One vector, one landmark after the other."""
    near = sorted(range(len(vectors)), key=lambda j: float((x - vectors[j]).square().sum()))[:NEAREST]
    weights = [float((x - vectors[j]).square().sum()) ** -POWER for j in near]
    weights = [w / sum(weights) for w in weights]

    def kernel(a: Tensor, b: Tensor) -> float:
        return 1 / (1 + float((a - b).square().sum()))

    company = [sum(w * kernel(places[i], places[j]) for w, j in zip(weights, near, strict=True)) for i in near]
    at = places[near[company.index(max(company))]]
    for _ in range(STEPS):
        pull = [w * kernel(at, places[j]) for w, j in zip(weights, near, strict=True)]
        at = sum((p * places[j] for p, j in zip(pull, near, strict=True)), torch.zeros(())) / sum(pull)
    return at


def test_placing_is_that_of_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, places, x = (torch.randn(n, d, generator=generator) for n, d in ((40, 5), (40, 2), (10, 5)))
    slow = torch.stack([slow_place(row.double(), vectors.double(), places.double()) for row in x])
    torch.testing.assert_close(network(vectors, places)(x).double(), slow, rtol=1e-3, atol=1e-4)


def test_a_landmark_lies_in_its_place() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, places = torch.randn(40, 5, generator=generator), 10 * torch.randn(40, 2, generator=generator)
    torch.testing.assert_close(network(vectors, places)(vectors), places, rtol=1e-3, atol=1e-3)


def test_a_point_between_two_groups_goes_with_the_larger() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])  # all as far from the origin
    places = torch.tensor([[0.0, 0.0], [1.0, 0.0], [100.0, 0.0]])
    placed = network(vectors, places)(torch.zeros(1, 2))
    torch.testing.assert_close(placed, torch.tensor([[0.5, 0.0]]), atol=0.1, rtol=0)


def test_the_cosine_knows_no_length() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 6, generator=generator) + 1
    made = LandmarkNetwork(6, 50, 2, unit=True)
    made.measure(x)
    made.landmarks.choose(made.prepare(x), spread=3.0, generator=generator)
    torch.testing.assert_close(made(5 * x), made(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("points", "width"), [(100, 7), (30, 300)])
def test_it_starts_at_the_principal_components(points: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(points, width, generator=generator) * torch.linspace(3, 0.1, width)
    made = LandmarkNetwork(width, 20, 2)
    made.landmarks.choose(x - x.mean(0), spread=4.0, generator=generator)
    assert float(made.landmarks.places[:, 0].detach().std()) == pytest.approx(4, rel=0.1)
    kept = made.landmarks.basis
    torch.testing.assert_close(kept.T @ kept, torch.eye(kept.shape[1]).mul(kept.square().sum(0)), atol=1e-4, rtol=0)
