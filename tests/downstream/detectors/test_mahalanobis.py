"""Mahalanobis distance: closed forms, scikit-learn, and leaving one out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from ssl_transfer.downstream.detectors import Mahalanobis

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 6)) @ RNG.normal(size=(6, 6)) + 3


def test_closed_form() -> None:
    """Four points at ± a and ± b on the axes: the covariance is diag(a²/2, b²/2)."""
    points = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 0.5], [0.0, -0.5]])
    detector = Mahalanobis(shrinkage=0).fit(points)
    np.testing.assert_allclose(detector.score_samples([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), [-(2**0.5), -(8**0.5), 0])
    sphere = Mahalanobis(shrinkage=1).fit(points)  # the mean variance, (4.5 + 0.125) / 2, in all directions
    np.testing.assert_allclose(sphere.score_samples([[0.0, 2.0]]), [-2 / 2.3125**0.5])


def test_it_is_scikit_learn_s_ledoit_wolf() -> None:
    queries = RNG.normal(size=(20, 6))
    detector, reference = Mahalanobis().fit(X), LedoitWolf().fit(X)
    assert detector.shrinkage_ == pytest.approx(reference.shrinkage_)
    np.testing.assert_allclose(detector.score_samples(queries), -(reference.mahalanobis(queries) ** 0.5))


@pytest.mark.parametrize("shrinkage", [0.0, 0.3])
def test_leaving_one_out_is_fitting_without_it(shrinkage: float) -> None:
    """The target of the shrinkage aside, which is that of all images."""
    detector = Mahalanobis(shrinkage=shrinkage, false_alarm_rate=0.0).fit(X)
    scale = np.cov(X.T, bias=True).trace() / 6
    scores = []
    for i in range(len(X)):
        others = np.delete(X, i, axis=0)
        covariance = (1 - shrinkage) * np.cov(others.T, bias=True) + shrinkage * scale * np.eye(6)
        off = X[i] - others.mean(0)
        scores.append(-((off @ np.linalg.solve(covariance, off)) ** 0.5))
    assert detector.offset_ == pytest.approx(min(scores), rel=1e-9)


def test_features_of_any_scale_score_alike() -> None:
    for factor in (1e-12, 1e9):
        scaled = Mahalanobis().fit(X * factor)
        np.testing.assert_allclose(scaled.score_samples(X * factor), Mahalanobis().fit(X).score_samples(X), rtol=1e-6)


def test_fewer_images_than_dimensions_need_shrinkage() -> None:
    wide = RNG.normal(size=(10, 40))
    assert np.isfinite(Mahalanobis().fit(wide).score_samples(wide)).all()
    with pytest.raises(ValueError, match=r"no inverse with shrinkage=0: .* set shrinkage above 0"):
        Mahalanobis(shrinkage=0).fit(wide)


def test_a_dead_feature_does_no_harm() -> None:
    dead = np.concatenate([X, np.full((80, 1), 0.1)], axis=1)
    assert np.isfinite(Mahalanobis().fit(dead).score_samples(dead)).all()
