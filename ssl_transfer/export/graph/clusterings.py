"""Clusterings, each from features or coordinates `(B, D)` to the numbers of clusters `(B,)`, −1 for none."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.downstream.clusterings import HDBSCAN, GaussianMixture, KMeans
from ssl_transfer.export.graph.nearest import NearestRows


class KMeansPart(nn.Module):
    """The nearest centre."""

    centres: Tensor

    def __init__(self, clustering: KMeans) -> None:
        super().__init__()
        self.unit = clustering.normalise
        self.register_buffer("centres", clustering.centres_)

    def forward(self, x: Tensor) -> Tensor:
        """Numbers of clusters."""
        x = F.normalize(x, dim=1) if self.unit else x
        return (x[:, None] - self.centres).square().sum(2).argmin(1)


class GaussianMixturePart(nn.Module):
    """The Gaussian of the largest weighted density, in float64."""

    centre: Tensor
    means: Tensor
    factors: Tensor
    constants: Tensor

    def __init__(self, clustering: GaussianMixture) -> None:
        super().__init__()
        self.scale = float(clustering.scale_)
        factors = full_factors(clustering)  # (K, D, D)
        logs = factors.diagonal(dim1=1, dim2=2).log().sum(1) + clustering.weights_.log()
        self.register_buffer("centre", clustering.centre_)
        self.register_buffer("factors", factors)
        self.register_buffer("means", (clustering.means_[:, None] @ factors)[:, 0])  # (K, D), turned
        self.register_buffer("constants", logs)

    def forward(self, x: Tensor) -> Tensor:
        """Numbers of clusters."""
        x = (x.double() - self.centre) / self.scale
        turned = (x[None] @ self.factors) - self.means[:, None]  # (K, B, D)
        return (self.constants[:, None] - turned.square().sum(2) / 2).argmax(0)


def full_factors(clustering: GaussianMixture) -> Tensor:
    """The factors of the precisions as upper triangles `(K, D, D)`, of any kind of covariance."""
    factors, (count, width) = clustering.factors_, clustering.means_.shape
    return {
        "full": lambda: factors,
        "tied": lambda: factors.expand(count, -1, -1),
        "diag": lambda: torch.diag_embed(factors),
        "spherical": lambda: torch.diag_embed(factors[:, None].expand(-1, width)),
    }[clustering.covariance]().contiguous()


class HDBSCANPart(nn.Module):
    """The cluster of the nearest fitted point that is near enough."""

    reach: Tensor
    labels: Tensor

    def __init__(self, clustering: HDBSCAN) -> None:
        super().__init__()
        self.nearest = NearestRows(clustering.points_)
        self.register_buffer("reach", clustering.reach_)
        self.register_buffer("labels", torch.as_tensor(clustering.labels_))

    def forward(self, x: Tensor) -> Tensor:
        """Numbers of clusters."""
        distances, rows = (found[:, 0] for found in self.nearest(x, 1))
        labels = self.labels[rows]
        return torch.where(distances > self.reach[rows], torch.full_like(labels, -1), labels)
