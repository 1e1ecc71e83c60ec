"""Pretrain an image encoder on unlabelled images, learn whether that helped, and put it to work.

The public names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "AnomalyDetector": "ssl_transfer.downstream",
    "AsIs": "ssl_transfer.downstream",
    "Autoencoder": "ssl_transfer.pretraining",
    "Batch": "ssl_transfer.data.batch",
    "BatchNormStatistics": "ssl_transfer.downstream",
    "BottleneckAutoencoder": "ssl_transfer.downstream",
    "CDAN": "ssl_transfer.downstream",
    "CORAL": "ssl_transfer.downstream",
    "Classifier": "ssl_transfer.downstream",
    "Clusterer": "ssl_transfer.downstream",
    "Compact": "ssl_transfer.downstream",
    "ConformalCalibration": "ssl_transfer.downstream.conformal",
    "Corruption": "ssl_transfer.data.corruptions",
    "DANN": "ssl_transfer.downstream",
    "DenoisingAutoencoder": "ssl_transfer.pretraining",
    "DomainAdapter": "ssl_transfer.downstream",
    "DomainDataModule": "ssl_transfer.data.domains",
    "Encoder": "ssl_transfer.encoders",
    "EncoderSpec": "ssl_transfer.encoders",
    "Frozen": "ssl_transfer.downstream",
    "Full": "ssl_transfer.downstream",
    "GaussianKDE": "ssl_transfer.downstream",
    "GaussianMixture": "ssl_transfer.downstream",
    "Gradual": "ssl_transfer.downstream",
    "HDBSCAN": "ssl_transfer.downstream",
    "ImageDataModule": "ssl_transfer.data.module",
    "KMeans": "ssl_transfer.downstream",
    "KNNDistance": "ssl_transfer.downstream",
    "LinearThenFull": "ssl_transfer.downstream",
    "LoRA": "ssl_transfer.downstream",
    "Mahalanobis": "ssl_transfer.downstream",
    "OneClassSVM": "ssl_transfer.downstream",
    "Optimisation": "ssl_transfer.optimisation",
    "PCA": "ssl_transfer.downstream",
    "PaCMAP": "ssl_transfer.downstream",
    "ParametricMap": "ssl_transfer.downstream",
    "Partial": "ssl_transfer.downstream",
    "PatchMemoryBank": "ssl_transfer.downstream",
    "ReconstructionError": "ssl_transfer.downstream",
    "Reducer": "ssl_transfer.downstream",
    "RotationPrediction": "ssl_transfer.pretraining",
    "Scratch": "ssl_transfer.downstream",
    "SelfTraining": "ssl_transfer.downstream",
    "SimCLR": "ssl_transfer.pretraining",
    "SourceOnly": "ssl_transfer.downstream",
    "StreamDataModule": "ssl_transfer.data.stream",
    "SubspaceAlignment": "ssl_transfer.downstream",
    "Surgical": "ssl_transfer.downstream",
    "TSNE": "ssl_transfer.downstream",
    "Target": "ssl_transfer.downstream",
    "UMAP": "ssl_transfer.downstream",
    "Views": "ssl_transfer.data.views",
    "compare_runs": "ssl_transfer.running.compared",
    "fit": "ssl_transfer.running.fit",
    "load_autoencoder": "ssl_transfer.encoders",
    "load_encoder": "ssl_transfer.encoders",
    "load_model": "ssl_transfer.downstream",
    "predict": "ssl_transfer.running.fit",
    "read_export": "ssl_transfer.export",
    "save_encoder": "ssl_transfer.encoders",
    "test": "ssl_transfer.running.fit",
    "write_export": "ssl_transfer.export",
}
__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from ssl_transfer.data.batch import Batch as Batch
    from ssl_transfer.data.corruptions import Corruption as Corruption
    from ssl_transfer.data.domains import DomainDataModule as DomainDataModule
    from ssl_transfer.data.module import ImageDataModule as ImageDataModule
    from ssl_transfer.data.stream import StreamDataModule as StreamDataModule
    from ssl_transfer.data.views import Views as Views
    from ssl_transfer.downstream import CDAN as CDAN
    from ssl_transfer.downstream import CORAL as CORAL
    from ssl_transfer.downstream import DANN as DANN
    from ssl_transfer.downstream import HDBSCAN as HDBSCAN
    from ssl_transfer.downstream import PCA as PCA
    from ssl_transfer.downstream import TSNE as TSNE
    from ssl_transfer.downstream import UMAP as UMAP
    from ssl_transfer.downstream import AnomalyDetector as AnomalyDetector
    from ssl_transfer.downstream import AsIs as AsIs
    from ssl_transfer.downstream import BatchNormStatistics as BatchNormStatistics
    from ssl_transfer.downstream import BottleneckAutoencoder as BottleneckAutoencoder
    from ssl_transfer.downstream import Classifier as Classifier
    from ssl_transfer.downstream import Clusterer as Clusterer
    from ssl_transfer.downstream import Compact as Compact
    from ssl_transfer.downstream import DomainAdapter as DomainAdapter
    from ssl_transfer.downstream import Frozen as Frozen
    from ssl_transfer.downstream import Full as Full
    from ssl_transfer.downstream import GaussianKDE as GaussianKDE
    from ssl_transfer.downstream import GaussianMixture as GaussianMixture
    from ssl_transfer.downstream import Gradual as Gradual
    from ssl_transfer.downstream import KMeans as KMeans
    from ssl_transfer.downstream import KNNDistance as KNNDistance
    from ssl_transfer.downstream import LinearThenFull as LinearThenFull
    from ssl_transfer.downstream import LoRA as LoRA
    from ssl_transfer.downstream import Mahalanobis as Mahalanobis
    from ssl_transfer.downstream import OneClassSVM as OneClassSVM
    from ssl_transfer.downstream import PaCMAP as PaCMAP
    from ssl_transfer.downstream import ParametricMap as ParametricMap
    from ssl_transfer.downstream import Partial as Partial
    from ssl_transfer.downstream import PatchMemoryBank as PatchMemoryBank
    from ssl_transfer.downstream import ReconstructionError as ReconstructionError
    from ssl_transfer.downstream import Reducer as Reducer
    from ssl_transfer.downstream import Scratch as Scratch
    from ssl_transfer.downstream import SelfTraining as SelfTraining
    from ssl_transfer.downstream import SourceOnly as SourceOnly
    from ssl_transfer.downstream import SubspaceAlignment as SubspaceAlignment
    from ssl_transfer.downstream import Surgical as Surgical
    from ssl_transfer.downstream import Target as Target
    from ssl_transfer.downstream import load_model as load_model
    from ssl_transfer.downstream.conformal import ConformalCalibration as ConformalCalibration
    from ssl_transfer.encoders import Encoder as Encoder
    from ssl_transfer.encoders import EncoderSpec as EncoderSpec
    from ssl_transfer.encoders import load_autoencoder as load_autoencoder
    from ssl_transfer.encoders import load_encoder as load_encoder
    from ssl_transfer.encoders import save_encoder as save_encoder
    from ssl_transfer.export import read_export as read_export
    from ssl_transfer.export import write_export as write_export
    from ssl_transfer.optimisation import Optimisation as Optimisation
    from ssl_transfer.pretraining import Autoencoder as Autoencoder
    from ssl_transfer.pretraining import DenoisingAutoencoder as DenoisingAutoencoder
    from ssl_transfer.pretraining import RotationPrediction as RotationPrediction
    from ssl_transfer.pretraining import SimCLR as SimCLR
    from ssl_transfer.running.compared import compare_runs as compare_runs
    from ssl_transfer.running.fit import fit as fit
    from ssl_transfer.running.fit import predict as predict
    from ssl_transfer.running.fit import test as test


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'ssl_transfer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
