"""Density and one-class SVM: against scikit-learn, and whatever the scale of the features."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import svm
from sklearn.neighbors import KernelDensity

from ssl_transfer.downstream.detectors import GaussianKDE, OneClassSVM, kernel

RNG = np.random.default_rng(0)
X, QUERIES = RNG.normal(size=(200, 8)) + 5, RNG.normal(size=(50, 8)) + 5


@pytest.mark.parametrize("block", [2**22, 1000])
def test_density_is_scikit_learn_s(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "BLOCK", block)
    ours = GaussianKDE(bandwidth=0.7, false_alarm_rate=0.0).fit(X)
    np.testing.assert_allclose(
        ours.score_samples(QUERIES), KernelDensity(bandwidth=0.7).fit(X).score_samples(QUERIES), rtol=1e-9
    )
    left_out = [KernelDensity(bandwidth=0.7).fit(np.delete(X, i, 0)).score_samples(X[i : i + 1])[0] for i in range(200)]
    assert ours.offset_ == pytest.approx(min(left_out), rel=1e-9)


def test_density_of_two_points_by_hand() -> None:
    """Half way between two points at ± 1 with bandwidth 1: both give φ(1)."""
    density = GaussianKDE(bandwidth=1.0).fit([[-1.0], [1.0]])
    np.testing.assert_allclose(density.score_samples([[0.0]]), -0.5 - 0.5 * np.log(2 * np.pi))
    assert np.isfinite(density.score_samples([[1e6]])).all()  # far out, where every kernel is zero in floats


def test_the_svm_is_scikit_learn_s() -> None:
    for nu, gamma in ((0.1, None), (0.5, 0.05)):
        ours = OneClassSVM(nu=nu, gamma=gamma).fit(X)
        reference = svm.OneClassSVM(nu=nu, gamma=gamma or 10 / (8 * X.var())).fit(X)
        np.testing.assert_allclose(ours.score_samples(QUERIES), reference.score_samples(QUERIES), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-6, 1e4])
def test_features_of_any_scale_rank_alike(factor: float) -> None:
    plain, scaled = GaussianKDE().fit(X), GaussianKDE().fit(X * factor)
    assert scaled.bandwidth_ == pytest.approx(factor * plain.bandwidth_)
    np.testing.assert_allclose(
        scaled.score_samples(QUERIES * factor) + 8 * np.log(factor), plain.score_samples(QUERIES), rtol=1e-6
    )
    svms = OneClassSVM().fit(X).score_samples(QUERIES), OneClassSVM().fit(X * factor).score_samples(QUERIES * factor)
    np.testing.assert_allclose(*svms, rtol=1e-5, atol=1e-6)
