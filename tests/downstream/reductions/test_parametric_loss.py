"""The loss of neighbour maps against loops and closed forms; the graph against scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from ssl_transfer.downstream.reductions import parametric_loss
from ssl_transfer.downstream.reductions.parametric_loss import neighbour_graph, neighbour_loss


def slow_loss(a: Tensor, b: Tensor) -> Tensor:
    """Each of the 2B points in turn, each other point in turn."""
    points = [*a, *b]
    losses = []
    for i, point in enumerate(points):
        partner = (i + len(a)) % len(points)
        kernel = {j: 1 / (1 + ((point - other) ** 2).sum()) for j, other in enumerate(points) if j != i}
        losses.append(-torch.log(kernel[partner] / sum(kernel.values())))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("components", [1, 2, 5])
@pytest.mark.parametrize("block", [2**18, 40, 1])
def test_the_loss_and_its_gradient_are_those_of_loops(
    components: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parametric_loss, "BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    a = (3 * torch.randn(6, components, generator=generator) + 50).requires_grad_()  # far from the origin
    b = (3 * torch.randn(6, components, generator=generator) + 50).requires_grad_()
    fast, slow = neighbour_loss(a, b), slow_loss(a.double(), b.double())
    torch.testing.assert_close(fast, slow.float())
    torch.testing.assert_close(
        torch.autograd.grad(fast, (a, b)), torch.autograd.grad(slow, (a, b)), atol=1e-6, rtol=1e-4
    )


def test_two_pairs_by_hand() -> None:
    """Pairs at distance 1, far from each other: each finds its neighbour against (nearly) nothing else."""
    a, b = torch.tensor([[0.0], [100.0]]), torch.tensor([[1.0], [101.0]])
    assert float(neighbour_loss(a, b)) == pytest.approx(0, abs=1e-3)
    assert float(neighbour_loss(a.flip(0), b)) == pytest.approx(
        0.5 * (math.log(101**2 + 1) + math.log(99**2 + 1)), rel=0.1
    )


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_graph_is_scikit_learn_s(metric: str) -> None:
    vectors = torch.randn(80, 5, generator=torch.Generator().manual_seed(0)) + 1
    found = NearestNeighbors(n_neighbors=4, metric=metric).fit(vectors.numpy()).kneighbors(return_distance=False)
    assert neighbour_graph(vectors, 4, metric).tolist() == found.tolist()
