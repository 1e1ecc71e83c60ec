"""Detectors of anomalies, fitted on normal images' features, maps or errors. An import here registers a name."""

from ssl_transfer.downstream.detectors.base import Detector
from ssl_transfer.downstream.detectors.coreset import greedy_k_centre
from ssl_transfer.downstream.detectors.forecast import MemoryForecast
from ssl_transfer.downstream.detectors.kde import GaussianKDE
from ssl_transfer.downstream.detectors.knn import KNNDistance
from ssl_transfer.downstream.detectors.mahalanobis import Mahalanobis
from ssl_transfer.downstream.detectors.one_class_svm import OneClassSVM
from ssl_transfer.downstream.detectors.patch_bank import PatchMemoryBank
from ssl_transfer.downstream.detectors.reconstruction import ReconstructionError

__all__ = [
    "Detector",
    "GaussianKDE",
    "KNNDistance",
    "Mahalanobis",
    "MemoryForecast",
    "OneClassSVM",
    "PatchMemoryBank",
    "ReconstructionError",
    "greedy_k_centre",
]
