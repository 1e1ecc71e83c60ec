"""Estimators by name: what is described, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sklearn.cluster

from ssl_transfer.downstream import clusterings
from ssl_transfer.downstream.clusterings import Clustering, KMeans
from ssl_transfer.downstream.estimators import check_known, describe_estimator, make_estimator


def test_what_is_described_is_json_and_makes_it_again() -> None:
    described = describe_estimator(KMeans(np.int64(3), seed=np.int32(1)))  # type: ignore[arg-type]
    assert json.loads(json.dumps(described)) == described
    x = np.random.default_rng(0).normal(size=(30, 4))
    made = make_estimator(described, clusterings, Clustering)
    numpy_made = KMeans(np.int64(3), seed=np.int64(1))  # type: ignore[arg-type]
    assert np.array_equal(made.fit(x).labels_, numpy_made.fit(x).labels_)


def test_a_foreign_class_of_a_known_name_is_refused() -> None:
    check_known(KMeans(), clusterings, Clustering, "model.method")
    with pytest.raises(ValueError, match=r"^model.method KMeans is that of sklearn.*: give ssl_transfer's KMeans$"):
        check_known(sklearn.cluster.KMeans(), clusterings, Clustering, "model.method")
    with pytest.raises(ValueError, match="DBSCAN is unknown; known are GaussianMixture, HDBSCAN, KMeans"):
        check_known(sklearn.cluster.DBSCAN(), clusterings, Clustering, "model.method")
