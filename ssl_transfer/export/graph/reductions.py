"""Reductions, each from features `(B, D)` to coordinates `(B, n_components)`, float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.downstream.reductions import PCA
from ssl_transfer.downstream.reductions.landmarks import NEAREST, POWER, STEPS, LandmarkNetwork
from ssl_transfer.downstream.reductions.learned import LearnedReduction


class PCAPart(nn.Module):
    """Products with the principal components, in float64."""

    mean: Tensor
    components: Tensor

    def __init__(self, reduction: PCA) -> None:
        super().__init__()
        self.register_buffer("mean", reduction.mean_)
        self.register_buffer("components", (reduction.components_.T * reduction._scale()).contiguous())

    def forward(self, features: Tensor) -> Tensor:
        """Coordinates."""
        return ((features.double() - self.mean) @ self.components).float()


def learned_part(reduction: LearnedReduction) -> nn.Module:
    """The network of a learned reduction."""
    network = reduction.network_
    return LandmarkPart(network) if isinstance(network, LandmarkNetwork) else network


class LandmarkPart(nn.Module):
    """What `LandmarkNetwork` gives, in steps that every runtime knows."""

    norms: Tensor

    def __init__(self, network: LandmarkNetwork) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("norms", network.landmarks.vectors.square().sum(1))

    def forward(self, features: Tensor) -> Tensor:
        """Coordinates."""
        landmarks = self.network.landmarks
        x = F.normalize(features, dim=1) if self.network.unit else features
        x = self.network[0](x) @ landmarks.basis
        squared = torch.addmm(self.norms, x, landmarks.vectors.T, alpha=-2)
        near = squared.topk(min(NEAREST, squared.shape[1]), dim=1, largest=False).indices
        exact = (x[:, None] - landmarks.vectors[near]).square().sum(2)  # (B, 16)
        weights = torch.softmax(-POWER * exact.clamp(min=1e-6).log(), dim=1)
        around = landmarks.places[near]  # (B, 16, n)
        apart = (around[:, :, None] - around[:, None]).square().sum(3)  # (B, 16, 16)
        company = (weights[:, None] / (1 + apart)).sum(2)
        at = around.gather(1, company.argmax(1)[:, None, None].expand(-1, 1, around.shape[2]))  # (B, 1, n)
        for _ in range(STEPS):
            pull = weights / (1 + (at - around).square().sum(2))
            pull = (pull / pull.sum(1, keepdim=True))[..., None]
            at = (pull * around).sum(1, keepdim=True)
        return at[:, 0]
