"""CORAL: both domains' features get one covariance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_transfer.downstream.adaptation.base import Adaptation, Map, Reading, check_images, identity


class CORAL(Adaptation):
    """Correlation alignment: the domains' features get the same covariance.

    On frozen features source features are whitened and coloured as the target's are (Sun et al. 2016,
    https://arxiv.org/abs/1511.05547); in training the squared distance of the covariances of a batch is a loss (Deep
    CORAL, Sun and Saenko 2016, https://arxiv.org/abs/1607.01719).

    Args:
        weight: of that loss at the end of the fit; it rises with the progress.
        ridge: added to the variances of frozen features, as a share of their mean. None: both covariances are drawn
            towards equal variances by one share, the larger of the two that are best for so many images and features
            (Chen et al. 2010, Shrinkage algorithms for MMSE covariance estimation, https://arxiv.org/abs/0907.4698),
            so that with few images the map becomes a change of mean and scale.

    >>> source, target = torch.randn(500, 3).double() * 5, torch.randn(500, 3).double()
    >>> (matrix, shift), _ = CORAL(ridge=1e-9).align(source, target)
    >>> torch.allclose(torch.cov((source @ matrix + shift).T), torch.cov(target.T), atol=1e-6)
    True
    """

    def __init__(self, weight: float = 1.0, ridge: float | None = None) -> None:
        if weight <= 0:
            raise ValueError(f"method.weight must be above 0, not {weight}: for none take SourceOnly")
        if ridge is not None and ridge <= 0:
            raise ValueError(f"method.ridge must be above 0, not {ridge}")
        self.weight, self.ridge = weight, ridge

    cure = "its weight is too low: raise --model.method.weight"
    spread = "take an encoder pretrained on both domains, or a method that teaches it, such as DANN"

    def loss(
        self, heads: nn.Module, source: Reading, target: Reading, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        width = source.features.shape[1]
        with torch.autocast(source.features.device.type, enabled=False):  # variances are differences of large numbers
            covariances = [torch.cov(reading.features.float().T) for reading in (source, target)]
        distance = (covariances[0] - covariances[1]).square().sum() / (4 * width**2)
        return self.weight * progress * distance, {"covariance_distance": distance.detach()}

    def align(self, source: Tensor, target: Tensor) -> tuple[Map, Map]:
        check_images(self, source, target)
        shrunk = max(shrinkage(source), shrinkage(target)) if self.ridge is None else 0.0
        whitened = _power(source, -0.5, shrunk, self.ridge or 0.0)
        coloured = _power(target, 0.5, shrunk, self.ridge or 0.0)
        matrix = whitened @ coloured
        return (matrix, target.mean(0) - source.mean(0) @ matrix), identity(target)


def shrinkage(features: Tensor) -> float:
    """The share, 0 to 1, by which the covariance of features `(N, D)` is best drawn towards equal variances.

    >>> round(shrinkage(torch.eye(4)[:2]), 3)
    0.889
    """
    from sklearn.covariance import oas

    return float(oas(features.double().numpy())[1])


def _power(features: Tensor, exponent: float, shrunk: float, ridge: float) -> Tensor:
    """A power of the covariance of features `(N, D)`, as a matrix `(D, D)`; shrunk, ridge: what its variances are
    drawn to their mean by, and what is added to them as a share of it."""
    covariance = torch.atleast_2d(torch.cov(features.T))
    values, vectors = torch.linalg.eigh(covariance)
    mean = values.mean()
    lifted = (1 - shrunk) * values.clamp(min=0) + (shrunk + ridge) * mean
    return (vectors * lifted.clamp(min=1e-12 * mean) ** exponent) @ vectors.T
