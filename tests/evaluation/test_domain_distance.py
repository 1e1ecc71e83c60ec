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


def classes_of(count: int, classes: int, seed: int, falling: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(falling ** torch.arange(classes), count, replacement=True, generator=generator)


@pytest.mark.parametrize(("count", "width", "classes"), [(600, 4, 2), (600, 16, 10), (2000, 256, 10), (2000, 8, 50)])
@pytest.mark.parametrize("falling", [1.0, 0.8])
def test_classes_of_other_frequencies_are_near_within_classes(
    count: int, width: int, classes: int, falling: float
) -> None:
    centres = 4 * cloud(classes, width, seed=7)
    own, its = classes_of(count, classes, 1), classes_of(count, classes, 2, falling)
    first, second = centres[own] + cloud(count, width, seed=3), centres[its] + cloud(count, width, seed=4)
    found, error = distance_within_classes(first, own, second, its)
    assert abs(found) < 4 * error < 0.6
    assert distance_within_classes(first, own, second + 5, its)[0] > 1.8
    assert distance_within_classes(first, own, centres[its] + 2 * cloud(count, width, seed=4), its)[0] > 0.3  # wider
    assert distance_within_classes(first, own, second, its) == (found, error)


def test_the_standard_error_within_classes() -> None:
    """Of accuracies of coins, weighted by the second set's frequencies, 4 √(Σ w² / (4 · 2 n))."""
    own, its = torch.tensor([0] * 40 + [1] * 10), torch.tensor([0] * 20 + [1] * 60)
    error = distance_within_classes(cloud(50), own, cloud(80, seed=1), its)[1]
    expected = 4 * ((0.25**2 / (4 * 2 * 20)) + 0.75**2 / (4 * 2 * 10)) ** 0.5
    assert error == pytest.approx(expected)


@pytest.mark.parametrize("shared", [1.0, 0.7, 0.3])
def test_images_in_both_sets_do_not_mislead(shared: float) -> None:
    """Were a row taught as of one set, and its twin judged, it would be told wrong."""
    classes, first = classes_of(1200, 10, 1), cloud(1200, 200)
    kept = torch.rand(1200, generator=torch.Generator().manual_seed(8)) < shared
    second = torch.where(kept[:, None], first, cloud(1200, 200, seed=2))
    found, error = distance_within_classes(first, classes, second, classes)
    assert abs(found) < 3 * error
    moved = torch.cat([second[:, :1] + 3, second[:, 1:]], dim=1)
    assert distance_within_classes(first, classes, moved, classes)[0] > 0.5


def test_a_class_far_away_counts_by_how_frequent_it_is() -> None:
    """Most of the second set on one class, and elsewhere there: that few rows can be matched does not hide it."""
    own, its = classes_of(1000, 10, 1), torch.where(torch.rand(1000) < 0.8, 0, classes_of(1000, 10, 2))
    second = cloud(1000, 8, seed=1) + 5 * (its == 0)[:, None]
    assert distance_within_classes(cloud(1000, 8), own, second, its)[0] > 1


def test_sets_that_cannot_be_matched_have_no_distance_within_classes() -> None:
    zeros, ones = torch.zeros(40).long(), torch.ones(40).long()
    assert torch.tensor(distance_within_classes(cloud(40), zeros, cloud(40), ones)).isnan().all()
    few = torch.tensor([1] * 6 + [0] * 34)  # of the first set none is of class 1, of the second more than a tenth
    assert torch.tensor(distance_within_classes(cloud(40), zeros, cloud(40), few)).isnan().all()
    assert not torch.tensor(distance_within_classes(cloud(40), zeros, cloud(40), few * 0)).isnan().any()
    flat = torch.zeros(40, 3)
    assert distance_within_classes(flat, zeros, flat, zeros)[0] == pytest.approx(0)


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
