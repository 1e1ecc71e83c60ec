"""UMAP: good neighbourhoods, new points as umap-learn places each, a state, and one line for each mistake."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness
from sklearn.utils.estimator_checks import parametrize_with_checks

from ssl_transfer.downstream.reductions import reference_map
from ssl_transfer.downstream.reductions.umap import UMAP

DIGITS = load_digits().data[np.random.default_rng(0).permutation(1797)].astype(np.float32)
X, NEW = DIGITS[:600], DIGITS[1200:]


@pytest.fixture(scope="module")
def fitted() -> UMAP:
    return UMAP(epochs=200, seed=3).fit(X)


@parametrize_with_checks([UMAP(n_neighbors=3, epochs=10)])
def test_scikit_learn_s_contract(estimator: UMAP, check: Callable[[UMAP], None]) -> None:
    check(estimator)


def test_neighbourhoods_are_kept(fitted: UMAP) -> None:
    assert trustworthiness(X, fitted.transform(X), n_neighbors=10) > 0.97
    assert trustworthiness(NEW, fitted.transform(NEW), n_neighbors=10) > 0.95


@pytest.mark.slow  # numba compiles what only umap-learn's own way needs
def test_new_points_are_placed_near_where_umap_learn_places_each_alone() -> None:
    umap = UMAP().library("umap")
    x, new = (part + np.random.default_rng(0).random(part.shape, np.float32) for part in (X, NEW[:30]))
    reference = umap.UMAP(n_epochs=200, random_state=3, transform_seed=3, n_jobs=1).fit(x)
    state = {"vectors": torch.from_numpy(x), "coordinates": torch.from_numpy(reference.embedding_)}
    theirs = np.concatenate([reference.transform(one[None]) for one in new])
    off = np.abs(UMAP(epochs=200, seed=3).load_state(state).transform(new) - theirs).max(1)
    assert np.median(off) < 0.25 and off.max() < 1  # of a map about 20 wide


def test_rounding_does_not_move_new_points() -> None:
    x = X + np.random.default_rng(0).random(X.shape, np.float32)  # digits are whole numbers, with neighbours tied
    new, fitted = x[400:], UMAP(epochs=100).fit(x[:400])
    placed = fitted.transform(new)
    for seed in range(3):
        rounded = new * (1 + 1e-6 * np.random.default_rng(seed).normal(size=new.shape).astype(np.float32))
        assert np.abs(fitted.transform(rounded) - placed).max() < 1e-3 * np.ptp(placed)


def test_new_points_know_no_batch_and_no_order(fitted: UMAP) -> None:
    together = fitted.transform(NEW[:50])
    assert together.dtype == np.float32 and together.shape == (50, 2)
    np.testing.assert_allclose(
        np.concatenate([fitted.transform(one[None]) for one in NEW[:9]]), together[:9], atol=1e-4
    )
    mixed = fitted.transform(np.concatenate([X[:5], NEW[:50]]))
    np.testing.assert_allclose(mixed[5:], together, atol=1e-4)
    assert np.array_equal(mixed[:5], fitted.coordinates_[:5])


def test_the_state_rebuilds_it_to_the_bit(fitted: UMAP) -> None:
    rebuilt = UMAP(**fitted.get_params()).load_state(load(save(fitted.state())))
    assert np.array_equal(rebuilt.transform(NEW[:50]), fitted.transform(NEW[:50]))


def test_the_cosine_is_no_matter_of_length() -> None:
    one, again = (UMAP(3, metric="cosine", epochs=30).fit(X[:100]) for _ in range(2))
    assert one.transform(4 * NEW[:20]).tolist() == one.transform(NEW[:20]).tolist()
    assert np.array_equal(again.coordinates_, one.coordinates_)


def test_clusters_far_apart_have_places() -> None:
    apart = np.concatenate([X[:50], X[50:100] + 1e4])
    assert np.isfinite(UMAP(n_neighbors=5, epochs=30).fit(apart).transform(apart + 0.5)).all()


def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    for made, word in [
        (UMAP(n_neighbors=60), "at least 61 points .* n_samples=60: .* set n_neighbors and n_components below their"),
        (UMAP(n_neighbors=1), "n_neighbors counts the point itself and must be 2 or more, not 1"),
        (UMAP(min_dist=-1), "min_dist must lie in 0 to 1, not -1"),
        (UMAP(epochs=0), "epochs must be 3 or more"),
        (UMAP(epochs="5"), "epochs must be a whole number, or None for the usual number, not '5'"),  # type: ignore[arg-type]
        (UMAP(n_neighbors=15.5), "n_neighbors must be a whole number, not 15.5"),  # type: ignore[arg-type]
        (UMAP(seed=-1), "seed must be 0 or more, not -1"),
        (UMAP(65), "only 64 features: ask for at most 64"),
        (UMAP(metric="l1"), "metric must be euclidean or cosine, not 'l1'"),  # type: ignore[arg-type]
    ]:
        with pytest.raises(ValueError, match=f"^[^\n]*{word}[^\n]*$"):
            made.fit(X[:60])
    with pytest.raises(ValueError, match=r"200,000 points at most, got 1,000,000: .* take ParametricMap or PCA"):
        UMAP().check(1_000_000, 512)
    monkeypatch.setattr(reference_map.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"^UMAP needs umap-learn: pip install 'ssl_transfer\[reduce\]'$"):
        UMAP().fit(X)
