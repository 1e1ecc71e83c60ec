"""Figures of clusters, against slow references and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_samples

from ssl_transfer.evaluation.clustering import cluster_figures, hungarian_accuracy, silhouette


def slow_accuracy(found: np.ndarray, labels: np.ndarray) -> float:
    """The best over all one-to-one maps from clusters to classes, noise to none."""
    clusters, classes = sorted({*found.tolist()} - {-1}), sorted({*labels.tolist()})
    targets = [*classes, *([-2] * len(clusters))]
    best = 0.0
    for chosen in set(itertools.permutations(targets, len(clusters))):
        match = dict(zip(clusters, chosen, strict=True))
        best = max(best, float(np.mean([match.get(f) == t for f, t in zip(found, labels, strict=True)])))
    return best


@pytest.mark.parametrize("clusters", [1, 3, 5])
def test_hungarian_accuracy_against_all_matchings(clusters: int) -> None:
    rng = np.random.default_rng(clusters)
    labels = rng.integers(0, 3, 60)
    found = np.where(rng.random(60) < 0.6, labels % clusters, rng.integers(-1, clusters, 60))
    assert hungarian_accuracy(found, labels) == pytest.approx(slow_accuracy(found, labels))


def slow_nmi(found: np.ndarray, labels: np.ndarray) -> float:
    def entropy(*columns: np.ndarray) -> float:
        _, counts = np.unique(np.stack(columns), axis=1, return_counts=True)
        shares = counts / counts.sum()
        return float(-(shares * np.log(shares)).sum())

    shared = entropy(found) + entropy(labels) - entropy(found, labels)
    return 2 * shared / (entropy(found) + entropy(labels))


def slow_ari(found: np.ndarray, labels: np.ndarray) -> float:
    pairs = list(itertools.combinations(range(len(found)), 2))
    same = np.array([[found[i] == found[j], labels[i] == labels[j]] for i, j in pairs])
    both, expected = (same[:, 0] & same[:, 1]).sum(), same[:, 0].sum() * same[:, 1].sum() / len(pairs)
    return float((both - expected) / (same.sum() / 2 - expected))


def test_figures_against_slow_references() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 80)
    found = np.where(rng.random(80) < 0.7, labels, rng.integers(-1, 4, 80))
    figures = cluster_figures(found, labels)
    assert figures["nmi"] == pytest.approx(slow_nmi(found, labels))
    assert figures["ari"] == pytest.approx(slow_ari(found, labels))
    assert figures["hungarian_accuracy"] == pytest.approx(slow_accuracy(found, labels))
    assert figures["hungarian_accuracy_low"] < figures["hungarian_accuracy"] < figures["hungarian_accuracy_high"]
    assert figures["clusters"] == 4 and figures["noise_share"] == pytest.approx((found < 0).mean())


def test_by_hand() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    right = cluster_figures((labels + 1) % 3, labels)
    assert right["nmi"] == pytest.approx(1) and right["ari"] == right["hungarian_accuracy"] == 1
    noise = cluster_figures(np.full(6, -1), labels)
    assert noise["hungarian_accuracy"] == noise["nmi"] == noise["clusters"] == 0 and noise["noise_share"] == 1
    together = cluster_figures(np.zeros(6, int), labels)
    assert together["hungarian_accuracy"] == pytest.approx(1 / 3) and together["ari"] == 0


def test_images_without_a_label_are_left_out() -> None:
    found, labels = torch.tensor([0, 0, 1, 1, 0, -1]), torch.tensor([0, 0, 1, 1, -1, -1])
    figures = cluster_figures(found, labels)
    assert figures["hungarian_accuracy"] == 1 and figures["noise_share"] == pytest.approx(1 / 6)
    assert cluster_figures(found, torch.full((6,), -1)).keys() == {"clusters", "noise_share"}


def test_the_silhouette_is_of_a_seeded_sample_without_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(900, 4, generator=generator)
    found = (vectors[:, 0] > 0).long()
    found[::7] = -1
    inside = (found >= 0).numpy()
    slow = silhouette_samples(vectors.numpy()[inside], found.numpy()[inside]).mean()
    assert silhouette(vectors, found) == pytest.approx(slow, abs=1e-5)
    sampled = silhouette(vectors, found, most=300)
    assert sampled == silhouette(vectors.numpy(), found.numpy(), most=300) == pytest.approx(slow, abs=0.03)
    assert sampled != silhouette(vectors, found, most=300, seed=1)
    assert cluster_figures(found, vectors=vectors)["silhouette"] == pytest.approx(slow, abs=1e-5)


@pytest.mark.parametrize("found", [[0, 0, 0], [-1, -1, -1], [0, 1, 2]])
def test_without_two_clusters_there_is_no_silhouette(found: list[int]) -> None:
    assert silhouette(np.eye(3), np.array(found)) is None
