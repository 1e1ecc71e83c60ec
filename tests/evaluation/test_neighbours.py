"""Nearest neighbours against all distances in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_transfer.evaluation import neighbours
from ssl_transfer.evaluation.neighbours import nearest

RANDOM = torch.Generator().manual_seed(0)


def clumps(width: int, spread: float, apart: float) -> Tensor:
    """Ten clumps of 60 points."""
    centres = apart * torch.randn(10, width, generator=RANDOM)
    return (centres[:, None] + spread * torch.randn(10, 60, width, generator=RANDOM)).flatten(0, 1)


SETS = {
    "dense clumps of a map": clumps(2, 1e-3, 10),
    "far clumps of a map": clumps(2, 1, 1e4) + 1e5,
    "as wide as narrow goes": clumps(16, 1e-2, 10),
    "wide": clumps(64, 1, 3),
    "wide, far from the origin": clumps(64, 1, 10) + 1000,
}


@pytest.mark.parametrize("x", SETS.values(), ids=SETS.keys())
@pytest.mark.parametrize("own", [True, False])
def test_they_are_those_of_all_distances(x: Tensor, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_PART", 10_000)
    queries = x if own else x[::7] + 0.1 * x.std(0)
    exact = (queries.double()[:, None] - x.double()).norm(dim=2)
    if own:
        exact.fill_diagonal_(torch.inf)
    distances, indices = nearest(x, 15, None if own else queries, block=20_000)
    expected = exact.topk(15, largest=False).values
    torch.testing.assert_close(distances.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(exact.gather(1, indices), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("width", [2, 32])
def test_few_rows_and_no_queries(width: int) -> None:
    x = torch.randn(4, width, generator=RANDOM)
    assert nearest(x, 3)[1].sort(dim=1).values.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    distances, indices = nearest(x, 2, x[:0])
    assert distances.shape == indices.shape == (0, 2) and indices.dtype == torch.int64


@pytest.mark.parametrize("width", [2, 32])
def test_a_duplicate_is_a_neighbour_and_oneself_is_not(width: int) -> None:
    x = torch.randn(5, width, generator=RANDOM).repeat(2, 1)
    distances, indices = nearest(x, 1)
    assert indices.flatten().tolist() == [5, 6, 7, 8, 9, 0, 1, 2, 3, 4] and (distances == 0).all()
