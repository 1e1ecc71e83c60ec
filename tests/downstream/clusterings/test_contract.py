"""What every clustering keeps: scikit-learn's contract, a state of tensors, labels that no batch changes, errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import Tensor

from ssl_transfer.downstream.clusterings import HDBSCAN, Clustering, GaussianMixture, KMeans

MADE: list[Callable[[], Clustering]] = [
    lambda: KMeans(most=6),
    lambda: KMeans(4, normalise=True),
    lambda: GaussianMixture(most=6),
    lambda: GaussianMixture(4, covariance="diag"),
    lambda: GaussianMixture(4, covariance="tied"),
    lambda: GaussianMixture(4, covariance="spherical"),
    HDBSCAN,
    lambda: HDBSCAN(min_cluster_size=10, min_samples=3),
]
TRUE = np.repeat([0, 1, 2, 3], [50, 40, 30, 20])


def blobs(seed: int = 0) -> Tensor:
    """Four clusters of 50, 40, 30 and 20 vectors `(140, 5)` in four directions, far from the origin."""
    noise = torch.randn(140, 5, generator=torch.Generator().manual_seed(seed))
    return noise + 40 * torch.eye(5)[torch.from_numpy(TRUE)] + 10


@parametrize_with_checks([KMeans(most=4), KMeans(3), GaussianMixture(most=3), GaussianMixture(2, "diag"), HDBSCAN()])
def test_scikit_learn_s_contract(estimator: Clustering, check: Callable[[Clustering], None]) -> None:
    check(estimator)


@pytest.mark.parametrize("make", MADE)
def test_it_finds_what_is_plain_to_see_and_puts_new_vectors_there(make: Callable[[], Clustering]) -> None:
    clustering = make().fit(blobs())
    assert clustering.n_clusters_ == 4
    assert clustering.labels_.dtype == np.int64
    inside = clustering.labels_ >= 0
    assert inside.mean() > 0.8 and adjusted_rand_score(TRUE[inside], clustering.labels_[inside]) == 1
    np.testing.assert_array_equal(clustering.labels_, clustering.predict(blobs()))
    assert (np.diff(np.bincount(clustering.labels_[inside])) <= 0).all()  # the largest first
    new = clustering.predict(blobs(seed=1))
    kept = new >= 0
    assert kept.mean() > 0.6 and adjusted_rand_score(TRUE[kept], new[kept]) == 1


@pytest.mark.parametrize("make", MADE)
def test_the_state_rebuilds_it_to_the_bit(make: Callable[[], Clustering]) -> None:
    fitted = make().fit(blobs())
    rebuilt = make().load_state(load(save(fitted.state()))).to("cpu")
    for one, other in zip(fitted.assign(blobs(seed=1)), rebuilt.assign(blobs(seed=1)), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(rebuilt.labels_, fitted.labels_)
    assert rebuilt.choice_ == fitted.choice_ and rebuilt.n_clusters_ == fitted.n_clusters_
    assert all(isinstance(value, str | int | None) for value in fitted.get_params().values())


@pytest.mark.parametrize("make", MADE)
def test_labels_know_no_batch_and_no_order(make: Callable[[], Clustering]) -> None:
    clustering, queries = make().fit(blobs()), blobs(seed=1)
    together = clustering.assign(queries)
    alone = [clustering.assign(queries[i : i + 1].numpy()) for i in range(len(queries))]
    np.testing.assert_array_equal(together.labels, np.concatenate([one.labels for one in alone]))
    np.testing.assert_allclose(together.belonging, np.concatenate([one.belonging for one in alone]), rtol=1e-5)


@pytest.mark.parametrize("make", MADE)
def test_the_same_seed_gives_the_same(make: Callable[[], Clustering]) -> None:
    np.testing.assert_array_equal(make().fit(blobs()).labels_, make().fit(blobs()).labels_)


@pytest.mark.parametrize("make", MADE)
def test_representatives_are_members_the_most_typical_first(make: Callable[[], Clustering]) -> None:
    clustering = make().fit(blobs())
    rows = clustering.representatives(blobs(), count=12)
    found = clustering.assign(blobs())
    assert rows.shape == (4, 12) and rows.dtype == np.int64
    for cluster, members in enumerate(rows):
        assert len(set(members.tolist())) == 12 and (found.labels[members] == cluster).all()
        assert (np.diff(found.typical[members]) <= 0).all()
        others = np.setdiff1d(np.flatnonzero(found.labels == cluster), members)
        assert len(others) == 0 or found.typical[members].min() >= found.typical[others].max()
    assert (clustering.representatives(blobs()[:3], count=2)[1:] == -1).all()


def refused(fit: Callable[[], object]) -> str:
    """The one line of a refusal."""
    with pytest.raises(ValueError) as error:
        fit()
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("make", MADE)
def test_what_vectors_are_refused(make: Callable[[], Clustering]) -> None:
    clustering = make()
    assert "not fitted" in refused(lambda: clustering.predict(blobs()))
    assert "not fitted" in refused(clustering.state)
    assert "n_samples=1" in refused(lambda: clustering.fit(blobs()[:1]))
    assert "constant features: all 140" in refused(lambda: clustering.fit(torch.full((140, 5), 0.7)))
    broken = blobs()
    broken[7, 0] = float("nan")
    assert "1 of 140 images contain NaN (the first is image 7)" in refused(lambda: clustering.fit(broken))
    clustering.fit(blobs())
    refused(lambda: clustering.predict(blobs()[:, :3]))
    refused(lambda: clustering.predict(blobs()[0]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: KMeans(0), "n_clusters must be 1 or more, or None to have it chosen, not 0"),
        (lambda: KMeans(2.5), "n_clusters must be a whole number, or None to have it chosen, not 2.5"),  # type: ignore[arg-type]
        (lambda: KMeans(most=2.5), "most must be a whole number, not 2.5"),  # type: ignore[arg-type]
        (lambda: GaussianMixture(seed=-1), "seed must be 0 or more, not -1"),
        (lambda: KMeans(most=1), "most is the largest number"),
        (lambda: KMeans(141), "at least 141 points with these settings, got n_samples=140"),
        (lambda: GaussianMixture(0), "n_clusters must be 1 or more"),
        (lambda: GaussianMixture(covariance="round"), "full, tied, diag or spherical, not 'round'"),  # type: ignore[arg-type]
        (lambda: GaussianMixture(28), "do not settle 28 full covariances of 5 features, which take more than 140"),
        (lambda: HDBSCAN(1), "min_cluster_size must be 2 or more"),
        (lambda: HDBSCAN(5, 0), "min_samples must be 1 or more"),
        (lambda: HDBSCAN(140), "at least 141 points.*or set min_cluster_size lower"),
    ],
)
def test_arguments_out_of_range(make: Callable[[], Clustering], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make().fit(blobs())
