"""A subject as one module, from images to its outputs by name, of which every step can be traced."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.downstream.fitted import Fitted
from ssl_transfer.downstream.fitted_anomaly import FittedAnomalyDetector
from ssl_transfer.downstream.fitted_classifier import FittedClassifier
from ssl_transfer.downstream.fitted_clusterer import FittedClusterer
from ssl_transfer.downstream.fitted_reducer import FittedReducer
from ssl_transfer.downstream.heads import Translation
from ssl_transfer.encoders import Encoder
from ssl_transfer.export.graph.parts import (
    cluster_part,
    detector_part,
    reduction_part,
)
from ssl_transfer.export.graph.reading import ErrorReader, Reader, StageReader
from ssl_transfer.export.subject import Subject

Outputs = dict[str, Tensor]
SLACK = 1e-6  # scores as near as this, as a share of their size, are one score: runtimes round differently
WHOLE = "take target torchvision, timm or encoder"
PART = "export its encoder alone (the folder `encoder` of the model) to torchvision, timm or encoder"


class Graph(nn.Module):
    """From images `(B, C, H, W)`, uint8 or float in [0, 1], to outputs by name; a copy, in eval mode.

    This is the base, which gives an encoder's `features`, and its `maps` if asked for. A subclass says what follows.

    Attributes:
        encoder: a copy; `reader`: of its features and maps.
        instead: what to do, in words, where this cannot be traced.
    """

    instead: ClassVar[str] = WHOLE

    def __init__(self, encoder: Encoder, maps: bool = False) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).eval()
        self.reader = Reader(self.encoder)
        self.gives_maps = maps

    def forward(self, images: Tensor) -> Outputs:
        """Outputs by name."""
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        return self.outputs(self.encoder.normalise(images), pixels)

    def outputs(self, x: Tensor, pixels: Tensor) -> Outputs:
        """Outputs of normalised images x, and of the same in [0, 1]."""
        if not self.gives_maps:
            return {"features": self.reader.features(x)}
        maps = self.reader.maps(x)
        features = self.reader.features_of(maps) if self.encoder.pools_maps else self.reader.features(x)
        return {"features": features, "maps": maps}


class ClassifierGraph(Graph):
    """Features, and answers to each target."""

    def __init__(self, fitted: FittedClassifier) -> None:
        super().__init__(fitted.encoder)
        head = copy.deepcopy(fitted.head)
        self.head = TranslationPart(head) if isinstance(head, Translation) else head
        self.targets = fitted.targets

    def outputs(self, x: Tensor, pixels: Tensor) -> Outputs:
        features = self.reader.features(x)
        answers = [
            kind.answer(own)
            for kind, own in zip(self.targets.kinds, self.targets.split(self.head(features)), strict=True)
        ]
        if self.targets.single:
            return {"features": features, "probabilities": answers[0]}
        named = {f"{kind.name}_scores": own for kind, own in zip(self.targets.kinds, answers, strict=True)}
        return {"features": features, **named}


class TranslationPart(nn.Module):
    """What `Translation` gives, without its care for half precision, which a graph has no step for."""

    table: Tensor

    def __init__(self, head: Translation) -> None:
        super().__init__()
        self.register_buffer("table", head.table)

    def forward(self, logits: Tensor) -> Tensor:
        """Log-probabilities of the classes."""
        probabilities = logits.float().softmax(1) @ self.table.exp()
        return probabilities.clamp(min=torch.finfo(torch.float32).tiny).log()


class AnomalyGraph(Graph):
    """Anomaly scores with their p-values and decisions, and maps of the images' size where there are some."""

    instead = PART
    calibration: Tensor

    def __init__(self, fitted: FittedAnomalyDetector) -> None:
        super().__init__(fitted.encoder)
        scorer = fitted.scorer
        self.reads, self.size = scorer.detector.reads, tuple(fitted.encoder.shape[1:])
        self.detector = detector_part(scorer.detector)
        calibration = torch.as_tensor(fitted.calibration.scores)
        finite = calibration[calibration.isfinite()].abs()
        size = finite.median() if len(finite) else torch.zeros(1)
        self.register_buffer("calibration", with_slack(calibration, size))
        self.threshold = float(with_slack(torch.tensor(fitted.threshold, dtype=torch.float64), size))
        if self.reads == "maps":
            self.stages = StageReader(self.encoder, scorer.stages, scorer.grid)
        if self.reads == "images":
            self.decoder = copy.deepcopy(scorer.decoder).eval()  # type: ignore[union-attr]
            self.errors = ErrorReader(self.encoder, self.reader)

    def outputs(self, x: Tensor, pixels: Tensor) -> Outputs:
        if self.reads == "features":
            return self._decided(self.detector(self.reader.features(x).float()).double())
        read = self.stages(x) if self.reads == "maps" else self.errors(x, pixels, self.decoder)
        scores, maps = self.detector(read)
        if maps.shape[1:] != self.size:
            maps = F.interpolate(maps[:, None], self.size, mode="bilinear", align_corners=False)[:, 0]
        return {**self._decided(scores.double()), "anomaly_map": maps}

    def _decided(self, scores: Tensor) -> Outputs:
        as_high = (self.calibration >= scores[:, None]).double().sum(1)
        count = self.calibration.shape[0]
        return {
            "anomaly_score": scores,
            "p_value": (1 + as_high) / (count + 1),
            "anomalous": scores > self.threshold,
        }


def with_slack(scores: Tensor, size: Tensor) -> Tensor:
    """Scores raised by 1e-6 of their own size, or of `size` where that is larger: what rounds below them is as high.

    >>> with_slack(torch.tensor([0.0, 2.0, -40.0], dtype=torch.float64), torch.tensor(1.0)).tolist()
    [1e-06, 2.000002, -39.99996]
    """
    return torch.where(scores.isfinite(), scores + SLACK * scores.abs().maximum(size), scores)


class ReducerGraph(Graph):
    """Coordinates."""

    instead = PART

    def __init__(self, fitted: FittedReducer) -> None:
        super().__init__(fitted.encoder)
        self.reduction = reduction_part(fitted.method)

    def outputs(self, x: Tensor, pixels: Tensor) -> Outputs:
        return {"coordinates": self.reduction(self.reader.features(x).float())}


class ClustererGraph(Graph):
    """Numbers of clusters."""

    instead = PART

    def __init__(self, fitted: FittedClusterer) -> None:
        super().__init__(fitted.encoder)
        self.reduction = nn.Identity() if fitted.reduction is None else reduction_part(fitted.reduction)
        self.clustering = cluster_part(fitted.clustering)

    def outputs(self, x: Tensor, pixels: Tensor) -> Outputs:
        return {"cluster": self.clustering(self.reduction(self.reader.features(x).float()))}


GRAPHS: dict[type[Fitted], Any] = {
    FittedClassifier: ClassifierGraph,
    FittedAnomalyDetector: AnomalyGraph,
    FittedReducer: ReducerGraph,
    FittedClusterer: ClustererGraph,
}


def graph_of(subject: Subject) -> Graph:
    """The graph of a subject, whose outputs are those that are expected of it.

    Raises:
        ValueError: it holds a method that no graph can say.
    """
    with torch.no_grad():
        graph: Graph = (
            Graph(subject.encoder, "maps" in subject.expected)
            if subject.fitted is None
            else GRAPHS[type(subject.fitted)](subject.fitted)
        )
    return graph.cpu().eval()
