"""Which module says what a fitted estimator does; one that has none is refused in a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ssl_transfer.downstream import clusterings, detectors, reductions
from ssl_transfer.export.graph.clusterings import GaussianMixturePart, HDBSCANPart, KMeansPart
from ssl_transfer.export.graph.detectors import GaussianKDEPart, KNNDistancePart, MahalanobisPart, OneClassSVMPart
from ssl_transfer.export.graph.errors import ReconstructionErrorPart
from ssl_transfer.export.graph.patch_bank import PatchBankPart
from ssl_transfer.export.graph.reductions import PCAPart, learned_part

Makers = Mapping[type, Callable[[Any], nn.Module]]

DETECTORS: Makers = {
    detectors.KNNDistance: KNNDistancePart,
    detectors.Mahalanobis: MahalanobisPart,
    detectors.GaussianKDE: GaussianKDEPart,
    detectors.OneClassSVM: OneClassSVMPart,
    detectors.PatchMemoryBank: PatchBankPart,
    detectors.ReconstructionError: ReconstructionErrorPart,
}
REDUCTIONS: Makers = {
    reductions.PCA: PCAPart,
    reductions.BottleneckAutoencoder: learned_part,
    reductions.ParametricMap: learned_part,
}
CLUSTERINGS: Makers = {
    clusterings.KMeans: KMeansPart,
    clusterings.GaussianMixture: GaussianMixturePart,
    clusterings.HDBSCAN: HDBSCANPart,
}


def detector_part(detector: detectors.Detector) -> nn.Module:
    """From what a detector reads to its scores, and maps where it has them."""
    return _part(DETECTORS, detector, "detect")


def reduction_part(reduction: reductions.Reduction) -> nn.Module:
    """From features to coordinates."""
    return _part(REDUCTIONS, reduction, "reduce")


def cluster_part(clustering: clusterings.Clustering) -> nn.Module:
    """From features or coordinates to clusters."""
    return _part(CLUSTERINGS, clustering, "cluster")


def _part(makers: Makers, estimator: Any, verb: str) -> nn.Module:
    made = makers.get(type(estimator))
    if made is None:
        known = ", ".join(kind.__name__ for kind in makers)
        raise ValueError(
            f"{type(estimator).__name__} is no graph of fixed steps, as its own library places each new image among "
            f"the fitted ones: {verb} by {known}, or export the encoder alone (the folder `encoder` of the model)"
        )
    return made(estimator)
