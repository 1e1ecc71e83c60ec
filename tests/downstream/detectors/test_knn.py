"""Distance to the nearest: against scikit-learn, by hand, and its memory."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from ssl_transfer.downstream.detectors import KNNDistance, knn


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("block", [2**24, 1000])
def test_it_is_scikit_learn_s(
    metric: Literal["cosine", "euclidean"], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knn, "BLOCK", block)  # small: several blocks of queries
    rng = np.random.default_rng(0)
    bank, queries = rng.normal(size=(300, 20)) + 50, rng.normal(size=(40, 20)) + 50
    ours = KNNDistance(n_neighbors=4, metric=metric).fit(bank)
    reference = NearestNeighbors(n_neighbors=4, metric=metric, algorithm="brute").fit(bank)
    np.testing.assert_allclose(ours.score_samples(queries), -reference.kneighbors(queries)[0].mean(1), rtol=1e-8)
    left_out = -reference.kneighbors()[0].mean(1)  # without arguments scikit-learn leaves each point itself out
    assert ours.offset_ == pytest.approx(np.quantile(left_out, 0.05), rel=1e-8)


def test_by_hand() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.0, 2.0], [4.0, 0.0]])
    cosine = KNNDistance(n_neighbors=2).fit(bank)
    np.testing.assert_allclose(cosine.score_samples([[3.0, 0.0], [0.0, 9.0], [-1.0, 0.0]]), [0, -0.5, -1.5], atol=1e-7)
    assert cosine.score_samples([[0.0, 0.0]]) == -1  # no direction: at a right angle to all
    euclidean = KNNDistance(n_neighbors=1, metric="euclidean").fit(bank)
    np.testing.assert_allclose(euclidean.score_samples([[4.0, 3.0], [0.0, 2.0]]), [-3, 0], atol=1e-7)


def test_a_few_zero_vectors_are_far_from_all_and_many_are_refused() -> None:
    bank = torch.cat([torch.rand(20, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 4)])
    detector = KNNDistance(n_neighbors=1).fit(bank)
    assert detector.score_samples(torch.zeros(1, 4)) == -1
    assert detector.score_samples(bank[:1]) == pytest.approx(0, abs=1e-7)
    with pytest.raises(ValueError, match="32 of 50 normal images are zero"):
        KNNDistance().fit(torch.cat([bank, torch.zeros(30, 4)])[2:].flip(0))


def test_neighbours_closer_than_rounding_are_told_apart() -> None:
    """Far from the origin, the matrix form in float32 cannot see distances of a thousandth."""
    bank = torch.zeros(100, 8)
    bank[:, 0] = 1000 + 1e-3 * torch.arange(100)
    detector = KNNDistance(n_neighbors=1, metric="euclidean").fit(bank)
    np.testing.assert_allclose(detector.score_samples(bank), 0, atol=1e-6)


def test_relative_to_the_neighbours_own_distances_against_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    bank, queries = rng.normal(size=(60, 5)), rng.normal(size=(7, 5))
    ours = KNNDistance(n_neighbors=3, metric="euclidean", relative_to=4).fit(bank)

    def distances(point: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.sqrt(((others - point) ** 2).sum(1))

    reach = [np.sort(distances(bank[i], np.delete(bank, i, axis=0)))[:3].mean() for i in range(60)]
    slow = []
    for query in queries:
        away = distances(query, bank)
        slow.append(np.sort(away)[:3].mean() / np.mean([reach[i] for i in np.argsort(away)[:4]]))
    np.testing.assert_allclose(ours.score_samples(queries), -np.array(slow), rtol=1e-9)
    again = KNNDistance(**ours.get_params()).load_state(ours.state())
    np.testing.assert_array_equal(again.score_samples(queries), ours.score_samples(queries))


def test_beside_equal_images_relative_distances_stay_finite() -> None:
    bank = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    bank[:20] = 0
    detector = KNNDistance(metric="euclidean", relative_to=20).fit(bank)
    assert -1000 < float(detector.score_samples(torch.full((1, 3), 0.01))[0]) < 0


@pytest.mark.parametrize("options", [{"relative_to": -1}, {"relative_power": -0.5}])
def test_what_relative_distances_refuse(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="relative_"):
        KNNDistance(**options).fit(torch.rand(20, 3))  # type: ignore[arg-type]
