"""Downstream tasks on a pretrained encoder, and how they treat it. An import here registers a short name."""

from ssl_transfer.downstream.adaptation import (
    CDAN,
    CORAL,
    DANN,
    Adaptation,
    BatchNormStatistics,
    SelfTraining,
    SourceOnly,
    SubspaceAlignment,
)
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
from ssl_transfer.downstream.domain_adapter import DomainAdapter
from ssl_transfer.downstream.model_folder import load_model
from ssl_transfer.downstream.reducer import Reducer
from ssl_transfer.downstream.reductions import PCA, TSNE, UMAP, BottleneckAutoencoder, PaCMAP, ParametricMap
from ssl_transfer.downstream.targets import Target
from ssl_transfer.downstream.tuning import (
    AsIs,
    Frozen,
    Full,
    Gradual,
    LinearThenFull,
    LoRA,
    Partial,
    Scratch,
    Surgical,
    Tuning,
)

__all__ = [
    "CDAN",
    "CORAL",
    "DANN",
    "HDBSCAN",
    "PCA",
    "TSNE",
    "UMAP",
    "Adaptation",
    "AnomalyDetector",
    "AsIs",
    "BatchNormStatistics",
    "BottleneckAutoencoder",
    "Classifier",
    "Clusterer",
    "Compact",
    "DomainAdapter",
    "Downstream",
    "Frozen",
    "Full",
    "GaussianKDE",
    "GaussianMixture",
    "Gradual",
    "KMeans",
    "KNNDistance",
    "LinearThenFull",
    "LoRA",
    "Mahalanobis",
    "OneClassSVM",
    "PaCMAP",
    "ParametricMap",
    "Partial",
    "PatchMemoryBank",
    "ReconstructionError",
    "Reducer",
    "Scratch",
    "SelfTraining",
    "SourceOnly",
    "SubspaceAlignment",
    "Surgical",
    "Target",
    "Tuning",
    "load_model",
]
