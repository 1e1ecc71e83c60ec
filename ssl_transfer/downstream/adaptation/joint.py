"""Features and class probabilities as one vector, on which a domain classifier is conditioned on the class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

RANDOM_WIDTH = 1_024  # of the random map, as in the paper


class OuterProduct(nn.Module):
    """The outer product of features `(B, D)` and class probabilities `(B, K)`, `(B, K·D)`, of a width of K·D.

    >>> OuterProduct(2, 2)(torch.tensor([[1.0, 3.0]]), torch.zeros(1, 2))
    tensor([[0.5000, 1.5000, 0.5000, 1.5000]])
    """

    def __init__(self, feature_dim: int, classes: int) -> None:
        super().__init__()
        self.width = feature_dim * classes

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """No gradient flows through the probabilities."""
        with torch.autocast(features.device.type, enabled=False):
            probabilities = logits.detach().float().softmax(1)
            return torch.einsum("bk,bd->bkd", probabilities, features.float()).flatten(1)


class RandomProduct(nn.Module):
    """(R_f f) ⊙ (R_p p) / √d: its inner products are on average those of the outer products of features f and
    probabilities p, in d = 1,024 numbers (Long et al. 2018, https://arxiv.org/abs/1705.10667, section 3.2).

    The matrices are drawn once from the standard normal distribution, by PyTorch's generator, which a fit seeds.

    >>> RandomProduct(700, 10)(torch.ones(3, 700), torch.zeros(3, 10)).shape
    torch.Size([3, 1024])
    """

    of_features: Tensor
    of_probabilities: Tensor

    def __init__(self, feature_dim: int, classes: int) -> None:
        super().__init__()
        self.width = RANDOM_WIDTH
        self.register_buffer("of_features", torch.randn(feature_dim, self.width))
        self.register_buffer("of_probabilities", torch.randn(classes, self.width))

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """No gradient flows through the probabilities."""
        with torch.autocast(features.device.type, enabled=False):
            probabilities = logits.detach().float().softmax(1)
            mapped: Tensor = (features.float() @ self.of_features) * (probabilities @ self.of_probabilities)
            return mapped / self.width**0.5
