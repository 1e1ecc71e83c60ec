"""t-SNE: good neighbourhoods, new points by themselves, a state, and one line for each mistake."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness
from sklearn.utils.estimator_checks import parametrize_with_checks

from ssl_transfer.downstream.reductions import reference_map, tsne
from ssl_transfer.downstream.reductions.tsne import TSNE

DIGITS = load_digits().data[np.random.default_rng(0).permutation(1797)].astype(np.float32)
X, NEW = DIGITS[:600], DIGITS[1200:]


@pytest.fixture(scope="module")
def fitted() -> TSNE:
    return TSNE(seed=3).fit(X)


@parametrize_with_checks([TSNE(perplexity=3, iterations=20)])
def test_scikit_learn_s_contract(estimator: TSNE, check: Callable[[TSNE], None]) -> None:
    check(estimator)


def test_neighbourhoods_are_kept(fitted: TSNE) -> None:
    assert trustworthiness(X, fitted.transform(X), n_neighbors=10) > 0.975
    assert trustworthiness(NEW, fitted.transform(NEW), n_neighbors=10) > 0.95


def test_new_points_know_no_batch_and_no_order(fitted: TSNE) -> None:
    together = fitted.transform(NEW[:50])
    assert together.dtype == np.float32 and together.shape == (50, 2)
    np.testing.assert_allclose(
        np.concatenate([fitted.transform(one[None]) for one in NEW[:3]]), together[:3], atol=1e-4
    )
    mixed = fitted.transform(np.concatenate([X[:5], NEW[:50]]))
    np.testing.assert_allclose(mixed[5:], together, atol=1e-4)
    assert np.array_equal(mixed[:5], fitted.coordinates_[:5])


@pytest.mark.parametrize("many", [10_000, 100], ids=["tree", "grid"])
def test_the_state_rebuilds_it_to_the_bit(fitted: TSNE, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tsne, "MANY", many)
    rebuilt = TSNE(**fitted.get_params()).load_state(load(save(fitted.state())))
    assert np.array_equal(rebuilt.transform(NEW[:50]), fitted.transform(NEW[:50]))
    assert trustworthiness(NEW, rebuilt.transform(NEW), n_neighbors=10) > 0.95


def test_one_dimension_and_the_cosine_are_no_matter_of_length() -> None:
    one = TSNE(1, perplexity=10, metric="cosine", iterations=50).fit(X[:100])
    np.testing.assert_allclose(one.transform(3 * NEW[:20]), one.transform(NEW[:20]), atol=1e-3)
    again = TSNE(1, perplexity=10, metric="cosine", iterations=50).fit(X[:100])
    assert np.array_equal(again.coordinates_, one.coordinates_)


def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    for made, word in [
        (TSNE(3), "n_components must be 1 or 2, not 3: for more take UMAP or PCA"),
        (TSNE(perplexity=40), "at least 121 points .* n_samples=60: .* set perplexity below a third of their number"),
        (TSNE(perplexity=None), "perplexity must be a number, not None"),  # type: ignore[arg-type]
        (TSNE(perplexity=float("nan")), "perplexity must be a number, not nan"),
        (TSNE(perplexity=-1), "perplexity must be 1 or more, not -1"),
        (TSNE(perplexity=3, metric="l1"), "metric must be euclidean or cosine, not 'l1'"),  # type: ignore[arg-type]
        (TSNE(perplexity=3, iterations=0), "iterations must be 1 or more"),
    ]:
        with pytest.raises(ValueError, match=f"^[^\n]*{word}[^\n]*$"):
            made.fit(X[:60])
    with pytest.raises(ValueError, match=r"200,000 points at most, got 1,000,000: .* take ParametricMap or PCA"):
        TSNE().check(1_000_000, 512)
    with pytest.raises(ValueError, match="constant features"):
        TSNE(perplexity=3).fit(torch.ones(60, 4))
    monkeypatch.setattr(reference_map.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"^TSNE needs openTSNE: pip install 'ssl_transfer\[reduce\]'$"):
        TSNE().fit(X)
