"""Rank, spread, alignment and uniformity against slow references and values known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from lightly.utils.debug import std_of_l2_normalized

from ssl_transfer.evaluation.diagnostics import alignment, feature_std, rankme, uniformity


def slow_rankme(features: torch.Tensor) -> float:
    """The paper's formula, from the singular values themselves."""
    singular = torch.linalg.svdvals(features.double())
    share = singular / singular.sum() + 1e-12
    return math.exp(-float((share * share.log()).sum()))


@pytest.mark.parametrize("shape", [(200, 16), (16, 200), (50, 50)])
def test_rankme_is_the_paper_s(shape: tuple[int, int]) -> None:
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0)).relu() + 0.1
    assert rankme(features) == pytest.approx(slow_rankme(features), rel=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 5, 10])
def test_rankme_of_equal_singular_values_is_their_number(rank: int) -> None:
    directions = torch.linalg.qr(torch.randn(64, 10, dtype=torch.double))[0][:, :rank]
    assert rankme(torch.eye(40, rank, dtype=torch.double) @ directions.T) == pytest.approx(rank, rel=1e-5)


def test_rounding_errors_have_no_rank() -> None:
    line = torch.rand(500, 1) @ torch.rand(1, 300)  # float32: its other singular values are rounding errors
    assert rankme(line) == pytest.approx(1, abs=0.01)
    assert rankme(torch.zeros(5, 3)) == 0


def test_the_spread_is_lightly_s() -> None:
    features = torch.randn(300, 20)
    assert feature_std(features) == pytest.approx(float(std_of_l2_normalized(features)) * 20**0.5, rel=2e-2)
    assert feature_std(torch.randn(5000, 64)) == pytest.approx(1, abs=0.01)
    assert feature_std(torch.randn(1, 64).repeat(10, 1)) == pytest.approx(0, abs=1e-6)


def test_alignment_by_hand() -> None:
    first = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    assert alignment(first, 5 * first) == 0
    assert alignment(first, -first) == pytest.approx(4)
    assert alignment(first, first.flip(0)) == pytest.approx(2)


def test_uniformity_against_every_pair() -> None:
    features = torch.randn(40, 8)
    z = features / features.norm(dim=1, keepdim=True)
    pairs = [math.exp(-2 * float((z[i] - z[j]).square().sum())) for i in range(40) for j in range(i)]
    assert uniformity(features) == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-5)
    assert uniformity(torch.ones(5, 3)) == 0
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8)
