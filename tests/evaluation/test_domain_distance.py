"""Distances of two sets of features: Gaussians whose distance is known, sets that are one and sets far apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchmetrics.image.fid import _compute_fid

from ssl_transfer.evaluation.domain_distance import distance_within_classes, frechet_distance, proxy_a_distance


def cloud(count: int, width: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_one_distribution_is_near() -> None:
    assert proxy_a_distance(cloud(1000), cloud(1200, seed=1)) < 0.2
    assert frechet_distance(cloud(1000), cloud(1200, seed=1)) < 0.02
    assert frechet_distance(cloud(50), cloud(50)) == pytest.approx(0, abs=1e-9)


def test_two_that_can_be_told_apart_are_two() -> None:
    assert proxy_a_distance(cloud(300), cloud(90, seed=1) + 8) == pytest.approx(2)


def test_overlapping_gaussians_by_the_best_classifier_s_error() -> None:
    """Unit Gaussians at distance d along a line are told apart with error Φ(−d/2)."""
    error = float(torch.special.ndtr(torch.tensor(-0.5)))
    shifted = cloud(8000, 1, seed=1) + 1
    assert proxy_a_distance(cloud(8000, 1), shifted) == pytest.approx(2 * (1 - 2 * error), abs=0.05)


def test_the_sets_count_alike_and_the_seed_draws() -> None:
    first, second = cloud(1000), cloud(100, seed=1) + 0.5
    assert proxy_a_distance(first, second, seed=3) == proxy_a_distance(first, second, seed=3)
    assert proxy_a_distance(first, second, seed=3) != proxy_a_distance(first, second, seed=4)
    assert proxy_a_distance(first, second) < 1.2  # nine in ten would be right by answering "first"
    assert torch.tensor(proxy_a_distance(first, second[:3])).isnan()


def test_classes_of_other_frequencies_are_near_within_classes() -> None:
    """Two clouds, of which the second set has mostly the one: far apart as they are, and alike class by class."""
    classes, rarer = (torch.rand(2000, generator=torch.Generator().manual_seed(5)) < p for p in (0.5, 0.95))
    first, second = cloud(2000) + 6 * classes[:, None], cloud(2000, seed=1) + 6 * rarer[:, None]
    assert proxy_a_distance(first, second) > 0.8
    found, error = distance_within_classes(first, classes, second, rarer)
    rows = 2 * int((~rarer).sum() + classes.sum())  # as many as the poorer set has of either class
    assert found <= 2 * error and error == pytest.approx(2 / rows**0.5, rel=0.01)
    assert distance_within_classes(first, classes, second + 8, rarer)[0] > 1.8


def test_sets_without_a_common_class_have_no_distance_within_classes() -> None:
    zeros, ones = torch.zeros(40).long(), torch.ones(40).long()
    assert torch.tensor(distance_within_classes(cloud(40), zeros, cloud(40), ones)).isnan().all()


def test_known_gaussians() -> None:
    """Of axis-parallel Gaussians: squared distances of the means and of the standard deviations."""
    x = cloud(5000, 3)
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T  # exactly white
    scale, shift = torch.tensor([2.0, 0.5, 1.0]), torch.tensor([1.0, 0.0, -3.0])
    expected = 10 + 1 + 0.25
    assert frechet_distance(x, x * scale + shift) == pytest.approx(expected, rel=1e-4)


def test_frechet_distance_is_torchmetrics_s_at_full_rank() -> None:
    a, b = cloud(200, 6).double(), (cloud(300, 6, seed=1) @ cloud(6, 6, seed=2)).double()
    expected = _compute_fid(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-6)


def test_fewer_rows_than_features() -> None:
    wide = cloud(20, 300)
    assert frechet_distance(wide, wide) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(wide, wide + 0.1) == pytest.approx(3, rel=1e-4)
    narrow = torch.cat([cloud(20, 2), torch.zeros(20, 298)], dim=1)
    assert frechet_distance(narrow, 3 * narrow) == pytest.approx(
        frechet_distance(narrow[:, :2], 3 * narrow[:, :2]), rel=1e-6
    )
