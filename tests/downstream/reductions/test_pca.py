"""PCA: closed form, scikit-learn, parts, and scikit-learn's contract."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.decomposition import PCA as Reference
from sklearn.utils.estimator_checks import parametrize_with_checks

from ssl_transfer.downstream.reductions import pca
from ssl_transfer.downstream.reductions.pca import PCA

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(300, 12)) @ RNG.normal(size=(12, 12)) + 5).astype(np.float32)
NEW = X[:40] + RNG.normal(size=(40, 12)).astype(np.float32)


@parametrize_with_checks([PCA(), PCA(whiten=True)])
def test_scikit_learn_s_contract(estimator: PCA, check: Callable[[PCA], None]) -> None:
    check(estimator)


def test_closed_form() -> None:
    """Points at ± a along one axis and ± b along another have variances 2a²/3 and 2b²/3."""
    points = [[3.0, 0.0], [-3.0, 0.0], [0.0, 0.5], [0.0, -0.5]]
    fitted = PCA().fit(points)
    assert fitted.components_.tolist() == [[1, 0], [0, 1]]
    np.testing.assert_allclose(fitted.explained_variance_, [6, 1 / 6])
    np.testing.assert_allclose(fitted.explained_variance_ratio_, [36 / 37, 1 / 37])
    np.testing.assert_allclose(PCA(whiten=True).fit_transform(points).std(0, ddof=1), 1, rtol=1e-6)


@pytest.mark.parametrize("count", [300, 9], ids=["tall", "wide"])
@pytest.mark.parametrize("whiten", [False, True])
def test_it_is_scikit_learn_s(count: int, whiten: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pca, "ROWS", 7)
    ours, reference = PCA(5, whiten=whiten).fit(X[:count]), Reference(5, whiten=whiten).fit(X[:count].astype(float))
    signs = np.sign((ours.components_.numpy() * reference.components_).sum(1))
    np.testing.assert_allclose(ours.transform(NEW), reference.transform(NEW) * signs, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(ours.explained_variance_, reference.explained_variance_, rtol=1e-5)
    np.testing.assert_allclose(ours.explained_variance_ratio_, reference.explained_variance_ratio_, rtol=1e-5)


def test_parts_give_what_the_whole_gives() -> None:
    whole, parts = PCA(4).fit(X), PCA(4)
    for part in np.array_split(X, [50, 53, 200]):
        parts.partial_fit(part)
    np.testing.assert_allclose(parts.components_, whole.components_, atol=1e-9)
    np.testing.assert_allclose(parts.transform(NEW), whole.transform(NEW), atol=1e-5)
    np.testing.assert_allclose(whole.fit(X[:100]).partial_fit(X[100:]).components_, parts.components_, atol=1e-9)


def test_a_direction_without_variance_is_zero_when_whitened() -> None:
    flat = np.pad(X[:, :2], ((0, 0), (0, 2)))
    assert (PCA(3, whiten=True).fit_transform(flat)[:, 2] == 0).all()


def test_the_state_rebuilds_it_to_the_bit() -> None:
    fitted = PCA(3, whiten=True).fit(torch.from_numpy(X))
    rebuilt = PCA(**fitted.get_params()).load_state(load(save(fitted.state()))).to("cpu")
    assert np.array_equal(rebuilt.transform(NEW), fitted.transform(torch.from_numpy(NEW)))
    with pytest.raises(ValueError, match="cannot learn on: fit a new one"):
        rebuilt.partial_fit(X)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="only 12 features: ask for at most 12"):
        PCA(13).fit(X)
    with pytest.raises(ValueError, match=r"at least 6 points .*, or set n_components lower"):
        PCA(5).fit(X[:5])
    with pytest.raises(ValueError, match="constant features"):
        PCA().fit(np.ones((20, 4)))
    with pytest.raises(
        ValueError, match="20,000 points of 150,528 features needs a matrix of side 20,000, at most 10,000"
    ):
        PCA().check(20_000, 150_528)
    PCA().check(1_000_000, 512)
