"""Downstream tasks on a pretrained encoder, and how they treat it. An import here registers a short name."""

from ssl_transfer.downstream.anomaly import AnomalyDetector
from ssl_transfer.downstream.base import Downstream
from ssl_transfer.downstream.classifier import Classifier
from ssl_transfer.downstream.clusterer import Clusterer
from ssl_transfer.downstream.clusterings import HDBSCAN, GaussianMixture, KMeans
from ssl_transfer.downstream.compact import Compact
from ssl_transfer.downstream.detectors import (
    GaussianKDE,
    KNNDistance,
    Mahalanobis,
    OneClassSVM,
    PatchMemoryBank,
    ReconstructionError,
)
from ssl_transfer.downstream.model_folder import load_model
from ssl_transfer.downstream.reducer import Reducer
from ssl_transfer.downstream.reductions import PCA, TSNE, UMAP, BottleneckAutoencoder, PaCMAP, ParametricMap
from ssl_transfer.downstream.tuning import Frozen, Full, Scratch, Tuning

__all__ = [
    "HDBSCAN",
    "PCA",
    "TSNE",
    "UMAP",
    "AnomalyDetector",
    "BottleneckAutoencoder",
    "Classifier",
    "Clusterer",
    "Compact",
    "Downstream",
    "Frozen",
    "Full",
    "GaussianKDE",
    "GaussianMixture",
    "KMeans",
    "KNNDistance",
    "Mahalanobis",
    "OneClassSVM",
    "PaCMAP",
    "ParametricMap",
    "PatchMemoryBank",
    "ReconstructionError",
    "Reducer",
    "Scratch",
    "Tuning",
    "load_model",
]
