"""Greedy k-centre: the points of the slow, obvious loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_transfer.downstream.detectors import coreset, greedy_k_centre


def slow(points: Tensor, count: int, first: int) -> list[int]:
    """As it is commonly written."""
    chosen = [first]
    distances = (points - points[first]).norm(dim=1)
    while len(chosen) < count:
        chosen.append(int(distances.argmax()))
        distances = torch.minimum(distances, (points - points[chosen[-1]]).norm(dim=1))
    return chosen


@pytest.mark.parametrize(("pool", "pending"), [(64, 128), (4, 1), (1, 7)])
@pytest.mark.parametrize("kind", ["even", "clustered", "far from the origin"])
def test_it_chooses_the_points_of_the_slow_loop(
    pool: int, pending: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coreset, "POOL", pool)
    monkeypatch.setattr(coreset, "PENDING", pending)
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(3000, 12, generator=generator)
    if kind == "clustered":
        points = points * 0.1 + 3 * torch.randn(9, 12, generator=generator)[torch.arange(3000) % 9]
    elif kind == "far from the origin":
        points = points + 100
    ours = greedy_k_centre(points, 300, seed=3)
    obvious = slow(points.double(), 300, int(ours[0]))
    same = 100 if kind == "clustered" else 300  # then the distances are as small as their rounding errors
    assert ours.dtype == torch.int64
    assert ours.tolist()[:same] == obvious[:same]
    reach = [float(torch.cdist(points, points[chosen]).amin(1).max()) for chosen in (ours, torch.tensor(obvious))]
    assert reach[0] <= 1.001 * reach[1]


def test_projected_points_are_still_covered() -> None:
    points = torch.randn(2000, 300, generator=torch.Generator().manual_seed(0))
    points[:, :5] *= 20
    exact, projected = (greedy_k_centre(points, 50, projection_dim=dim, seed=0) for dim in (None, 64))
    reach = [float(torch.cdist(points, points[chosen]).amin(1).max()) for chosen in (exact, projected)]
    assert reach[1] < 1.3 * reach[0] and exact.tolist() != projected.tolist()
    assert torch.equal(projected, greedy_k_centre(points, 50, projection_dim=64, seed=0))
    assert not torch.equal(projected, greedy_k_centre(points, 50, projection_dim=64, seed=1))


def test_duplicates_are_chosen_last_and_each_index_once() -> None:
    points = torch.arange(5.0).repeat(100)[:, None]
    chosen = greedy_k_centre(points, 500)
    assert set(points[chosen[:5], 0].tolist()) == set(range(5))
    assert sorted(chosen.tolist()) == list(range(500))


def test_half_precision_is_taken() -> None:
    points = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)).half()
    assert torch.equal(greedy_k_centre(points, 20), greedy_k_centre(points.float(), 20))


def test_progress_ends_at_the_count() -> None:
    seen: list[tuple[int, int]] = []
    greedy_k_centre(torch.rand(1000, 3), 200, progress=lambda done, count: seen.append((done, count)))
    assert seen[0] == (1, 200) and seen[-1] == (200, 200)


def test_a_count_out_of_range() -> None:
    for count in (0, 11):
        with pytest.raises(ValueError, match=f"1 to 10 of them, not {count}"):
            greedy_k_centre(torch.rand(10, 2), count)
