"""How a number of clusters is chosen, and what HDBSCAN says of new points and refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import cluster, mixture
from sklearn.metrics import silhouette_score

from ssl_transfer.downstream.clusterings import HDBSCAN, GaussianMixture, KMeans, gaussian_mixture, kmeans


def blobs(count: int = 40, clusters: int = 5) -> torch.Tensor:
    noise = torch.randn(count * clusters, 3, generator=torch.Generator().manual_seed(0))
    return noise + 15 * torch.arange(clusters).repeat_interleave(count)[:, None] * torch.tensor([1.0, -1.0, 0.5])


def test_k_means_takes_the_highest_silhouette_and_keeps_the_curve() -> None:
    found = KMeans(most=8).fit(blobs())
    assert list(found.choice_) == list(range(2, 9)) and found.n_clusters_ == 5
    for k, score in found.choice_.items():
        labels = cluster.KMeans(k, n_init=kmeans.TRIALS, random_state=0).fit_predict(blobs().numpy())
        assert score == pytest.approx(silhouette_score(blobs().numpy(), labels), abs=1e-5)
    assert KMeans(3).fit(blobs()).choice_ == {}


def test_a_mixture_takes_the_lowest_bic_and_a_single_gaussian_is_one_cluster() -> None:
    found = GaussianMixture(most=8).fit(blobs())
    assert list(found.choice_) == list(range(1, 9)) and found.n_clusters_ == 5
    assert min(found.choice_, key=lambda k: found.choice_[k]) == 5
    single = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    assert GaussianMixture(most=4).fit(single).n_clusters_ == 1


@pytest.mark.parametrize("covariance", gaussian_mixture.COVARIANCES)
def test_probabilities_are_scikit_learn_s(covariance: str) -> None:
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(0)).double()
    x[:100, 0] += 3
    standard = ((x - x.mean(0)) / (x - x.mean(0)).square().mean().sqrt()).numpy()
    reference = mixture.GaussianMixture(2, covariance_type=covariance, reg_covar=1e-4, max_iter=200, random_state=0)
    expected = reference.fit(standard).predict_proba(standard)[:, np.argsort(-reference.weights_)]
    found = GaussianMixture(2, covariance=covariance).fit(x)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.predict_proba(x), expected, atol=1e-4)
    assigned = found.assign(x)
    np.testing.assert_allclose(assigned.belonging, expected.max(1), atol=1e-4)
    np.testing.assert_array_equal(assigned.labels, expected.argmax(1))


def test_scale_and_place_of_the_features_do_not_matter_to_a_mixture() -> None:
    found = [GaussianMixture(5).fit(x).labels_ for x in (blobs(), 1e-4 * blobs() + 1)]
    np.testing.assert_array_equal(*found)


def test_k_means_with_few_points_that_differ() -> None:
    pair = torch.eye(2).repeat(10, 1)
    with pytest.raises(ValueError, match="n_clusters is 3 and fewer of the 20 vectors differ: set n_clusters lower"):
        KMeans(3).fit(pair)
    assert KMeans().fit(pair).n_clusters_ == 2


def test_directions_alone() -> None:
    rays = torch.cat([torch.linspace(1, 100, 50)[:, None] * torch.tensor([1.0, 0.1 * k]) for k in (0, 30)])
    labels = KMeans(2, normalise=True).fit(rays).labels_
    assert len(set(labels[:50])) == len(set(labels[50:])) == 1 and labels[0] != labels[50]


def test_hdbscan_is_scikit_learn_s_and_calls_distant_points_noise() -> None:
    x = blobs()
    found = HDBSCAN(min_cluster_size=10, min_samples=4).fit(x)
    reference = cluster.HDBSCAN(min_cluster_size=10, min_samples=4, copy=True).fit(x.numpy())
    np.testing.assert_array_equal(found.labels_ < 0, reference.labels_ < 0)
    assert len({*zip(found.labels_.tolist(), reference.labels_.tolist(), strict=True)}) == len({*found.labels_})
    assert found.choice_ == {}
    densest = int(found.probabilities_.argmax())
    reach = float(np.sort(np.linalg.norm(x.numpy() - x[densest].numpy(), axis=1))[3])  # the third other point
    direction = torch.tensor([0.0, 0.0, 1.0])
    alone = torch.tensor([1000.0, 0.0, 0.0])
    lonely = HDBSCAN(min_cluster_size=10, min_samples=4).fit(torch.cat([x, alone[None]]))
    assert lonely.labels_[-1] == -1 and float(found.reach_[densest]) == pytest.approx(reach, rel=1e-4)
    near = (x[densest] + 1e-3 * reach * direction)[None]
    assert found.predict(near) == found.labels_[densest]
    far = found.assign((x[densest] + 50 * direction)[None])
    assert far.labels.tolist() == [-1] and far.belonging.tolist() == [0]


@pytest.mark.parametrize(
    ("clustering", "fine", "too_large", "words"),
    [
        (HDBSCAN(), (60_000, 2), (1_000_000, 2), "cluster the coordinates of a Reducer, .* or take KMeans"),
        (HDBSCAN(), (10_000, 288), (60_000, 288), "for 60,000 points of 288 numbers"),
        (GaussianMixture(10), (1_000_000, 16), (54_000, 288), "take covariance diag"),
        (GaussianMixture(10, "diag"), (54_000, 1152), (10_000_000, 1152), "take KMeans"),
    ],
)
def test_what_would_take_hours_is_refused_before_any_work(
    clustering: HDBSCAN | GaussianMixture, fine: tuple[int, int], too_large: tuple[int, int], words: str
) -> None:
    clustering.check(*fine)
    with pytest.raises(ValueError, match=rf"more than 10 minutes .*{words}"):
        clustering.check(*too_large)
    KMeans(10).check(*too_large)


def test_many_points_go_on_from_the_best_start_on_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = KMeans(5).fit(blobs(200))
    monkeypatch.setattr(kmeans, "SAMPLE", 60)
    sampled = KMeans(5).fit(blobs(200))
    ordered = [found.centres_[found.centres_[:, 0].argsort()] for found in (sampled, whole)]  # all are equally large
    np.testing.assert_allclose(*ordered, atol=1e-4)
    assert KMeans(most=6).fit(blobs(200)).n_clusters_ == 5
