"""A clusterer loaded from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_transfer.downstream import clusterings, reductions
from ssl_transfer.downstream.clusterings import Assignment, Clustering
from ssl_transfer.downstream.estimators import make_estimator
from ssl_transfer.downstream.fitted import Fitted, table_of
from ssl_transfer.downstream.reductions import Reduction
from ssl_transfer.encoders import Encoder

CLUSTERING, REDUCTION = "clustering.", "reduction."  # before the names of their tensors


class ClusterPrediction(NamedTuple):
    """Where B images belong.

    clusters: `(B,)` int64; −1 is noise.
    belonging: `(B,)` float32, the distance from the cluster's centre or the probability of it, by the method.
    """

    clusters: NDArray[np.int64]
    belonging: NDArray[np.float32]


class FittedClusterer(Fitted):
    """From images to clusters, for prediction alone.

    Attributes:
        clustering: the fitted `Clustering`.
        reduction: the fitted `Reduction` whose coordinates it takes; None where it takes the features.
        encoder: gives these; `config`: what config.json holds, with the paths of each cluster's representatives.
    """

    kind = "Clusterer"
    needs = ("data", "method", "reduction", "n_clusters")

    def __init__(
        self, encoder: Encoder, clustering: Clustering, reduction: Reduction | None, config: dict[str, Any]
    ) -> None:
        super().__init__(encoder, config)
        self.clustering = clustering
        self.reduction = reduction

    @torch.inference_mode()
    def assign(self, images: Tensor | Sequence[str | Path], batch_size: int = 256) -> Assignment:
        """Clusters of images, how well each belongs, and how typical it is."""
        parts = self.in_parts(self.images_of(images), batch_size)
        features = torch.cat([self.encoder(part).float() for part in parts])
        return self.clustering.assign(placed(self.reduction, features))

    def predict(self, images: Tensor | Sequence[str | Path], batch_size: int = 256) -> ClusterPrediction:
        """Clusters of images: a tensor `(B, C, H, W)`, or paths of files, prepared as in training."""
        return ClusterPrediction(*self.assign(images, batch_size)[:2])

    def scores(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.assign(images).typical)

    def state(self) -> dict[str, Tensor]:
        return joint_state(self.clustering, self.reduction)

    @classmethod
    def rebuild(
        cls, folder: Path, encoder: Encoder, config: dict[str, Any], state: dict[str, Tensor], trust: Sequence[str]
    ) -> Self:
        clustering = make_estimator(config["method"], clusterings, Clustering).load_state(part_of(state, CLUSTERING))
        reduction: Reduction | None = None
        if config["reduction"] is not None:
            reduction = make_estimator(config["reduction"], reductions, Reduction)
            reduction.load_state(part_of(state, REDUCTION))
        return cls(encoder, clustering, reduction, config)

    def card(self, name: str) -> str:
        space = "features" if self.reduction is None else f"coordinates of {type(self.reduction).__name__}"
        return (
            f"# Clusterer\n\n{self.config['method']['name']} on the {space} of an encoder found "
            f"{self.config['n_clusters']} clusters, without labels.\n\n"
            "```python\nfrom ssl_transfer import load_model\n\n"
            f'model = load_model("{name}")\nprint(model.predict(["image.png"]).clusters)\n```\n\n'
            f"{table_of(self.config['metrics'])}"
        )


def placed(reduction: Reduction | None, features: Tensor) -> Tensor:
    """What is clustered: features `(N, D)`, or their coordinates."""
    return features if reduction is None else torch.from_numpy(reduction.transform(features))


def joint_state(clustering: Clustering, reduction: Reduction | None) -> dict[str, Tensor]:
    """The tensors of both under one roof."""
    state = {CLUSTERING + name: value for name, value in clustering.state().items()}
    return state | ({REDUCTION + name: value for name, value in reduction.state().items()} if reduction else {})


def part_of(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of one of them."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
