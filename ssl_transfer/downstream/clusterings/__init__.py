"""Clusterings of vectors. An import here registers a name."""

from ssl_transfer.downstream.clusterings.base import Assignment, Clustering
from ssl_transfer.downstream.clusterings.gaussian_mixture import GaussianMixture
from ssl_transfer.downstream.clusterings.hdbscan import HDBSCAN
from ssl_transfer.downstream.clusterings.kmeans import KMeans

__all__ = ["HDBSCAN", "Assignment", "Clustering", "GaussianMixture", "KMeans"]
