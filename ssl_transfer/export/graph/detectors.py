"""Detectors on features, each from features `(B, D)` to anomaly scores `(B,)`, float64, high for anomalies."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.downstream.detectors import GaussianKDE, KNNDistance, Mahalanobis, OneClassSVM
from ssl_transfer.downstream.detectors.knn import SPARE
from ssl_transfer.export.graph.nearest import lowest


class KNNDistancePart(nn.Module):
    """Mean distance to the k nearest of the bank, by that of their own neighbours where the detector says so."""

    centre: Tensor
    bank: Tensor
    norms: Tensor
    reach: Tensor

    def __init__(self, detector: KNNDistance) -> None:
        super().__init__()
        self.k, self.cosine, self.relative_to = detector.n_neighbors, detector.metric == "cosine", detector.relative_to
        self.power = detector.relative_power
        self.register_buffer("centre", detector.centre_)
        self.register_buffer("bank", detector.bank_)
        self.register_buffer("norms", detector.bank_.square().sum(1))
        if self.relative_to:
            self.register_buffer("reach", detector.reach_)
            self.least = float(detector.least_)

    def forward(self, features: Tensor) -> Tensor:
        """Anomaly scores."""
        x = features.to(self.bank.dtype)
        x = F.normalize(x, dim=1) if self.cosine else x - self.centre
        norms = torch.ones_like(self.norms) if self.cosine else self.norms
        wanted = min(max(self.k, self.relative_to) + SPARE, self.bank.shape[0])
        near = lowest(torch.addmm(norms, x, self.bank.T, alpha=-2), wanted)[1]
        distances, order = lowest(self._exact(x, near), wanted)
        mean = distances[:, : self.k].mean(1)
        if not self.relative_to:
            return mean
        others = near.gather(1, order[:, : self.relative_to])
        return mean / self.reach[others].mean(1).clamp(min=self.least) ** self.power

    def _exact(self, x: Tensor, near: Tensor) -> Tensor:
        """Distances of x `(B, D)` from rows `near` `(B, n)`, by differences, float64."""
        rows = self.bank[near]
        squared = (x[:, None] - rows).square().double().sum(2)
        if not self.cosine:
            return squared.sqrt()
        zero = (x == 0).all(1, keepdim=True) | (rows == 0).all(2)
        return torch.where(zero, torch.ones_like(squared), squared / 2)


class MahalanobisPart(nn.Module):
    """Length of the features once whitened by the fitted Gaussian."""

    mean: Tensor
    whiten: Tensor

    def __init__(self, detector: Mahalanobis) -> None:
        super().__init__()
        factor = detector.cholesky_
        inverse = torch.linalg.solve_triangular(factor, torch.eye(len(factor)).to(factor), upper=False)
        self.register_buffer("mean", detector.mean_)
        self.register_buffer("whiten", (inverse.T / detector.scale_**0.5).contiguous())

    def forward(self, features: Tensor) -> Tensor:
        """Anomaly scores."""
        return ((features.double() - self.mean) @ self.whiten).square().sum(1).sqrt()


class KernelPart(nn.Module):
    """Gaussian kernels exp(−γ d²) between features and a bank, of which a subclass makes a score."""

    centre: Tensor
    bank: Tensor
    norms: Tensor

    def __init__(self, centre: Tensor, bank: Tensor, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("centre", centre)
        self.register_buffer("bank", bank)
        self.register_buffer("norms", bank.square().sum(1))

    def exponents(self, features: Tensor) -> Tensor:
        """−γ d², float64 `(B, N)`."""
        x = features.double() - self.centre
        squared = torch.addmm(self.norms, x, self.bank.T, alpha=-2) + x.square().sum(1, keepdim=True)
        return squared.clamp(min=0) * -self.gamma


class GaussianKDEPart(KernelPart):
    """Minus the log density."""

    def __init__(self, detector: GaussianKDE) -> None:
        super().__init__(detector.centre_, detector.bank_, 0.5 / detector.bandwidth_**2)
        count, width = detector.bank_.shape
        self.constant = math.log(count) + width / 2 * math.log(2 * math.pi * detector.bandwidth_**2)

    def forward(self, features: Tensor) -> Tensor:
        """Anomaly scores."""
        exponents = self.exponents(features)
        largest = exponents.amax(1, keepdim=True)
        return self.constant - largest[:, 0] - (exponents - largest).exp().sum(1).log()


class OneClassSVMPart(KernelPart):
    """Minus the weighted sum of the support vectors' kernels."""

    coefficients: Tensor

    def __init__(self, detector: OneClassSVM) -> None:
        super().__init__(detector.centre_, detector.support_vectors_, detector.gamma_)
        self.register_buffer("coefficients", detector.dual_coef_)

    def forward(self, features: Tensor) -> Tensor:
        """Anomaly scores."""
        return -(self.exponents(features).exp() @ self.coefficients)
