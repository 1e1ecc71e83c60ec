"""Adversarial adaptation: features from which nobody can tell the domain."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.downstream.adaptation.base import Adaptation, Reading
from ssl_transfer.downstream.adaptation.reversal import reverse
from ssl_transfer.evaluation.validators import entropies


class DANN(Adaptation):
    """Domain-adversarial training (Ganin et al. 2016, https://arxiv.org/abs/1505.07818).

    A domain classifier learns to tell the domains apart by the features; its gradient reaches the encoder reversed, so
    that the encoder learns to deceive it. The reversal's strength rises with the fit's progress p from 0 to
    `strength`, as 2 / (1 + exp(−10 p)) − 1.

    Args:
        hidden: width of the domain classifier's hidden layer.
        strength: of the reversed gradient at the end.
        entropy: weight of the target's mean entropy, which draws decisions away from where target images lie.

    >>> round(DANN().schedule(0.5), 3)
    0.987
    """

    cure = (
        "the domain classifier may be dead, or its strength too low: lower --model.optimisation.lr, or raise "
        "--model.method.strength"
    )
    spread = "lower --model.method.strength, or take another --model.method"

    def __init__(self, hidden: int = 100, strength: float = 1.0, entropy: float = 0.0) -> None:
        if hidden < 1:
            raise ValueError(f"method.hidden must be at least 1, not {hidden}")
        if strength <= 0:
            raise ValueError(f"method.strength must be above 0, not {strength}: for none take SourceOnly")
        if entropy < 0:
            raise ValueError(f"method.entropy must be 0 or more, not {entropy}")
        self.hidden, self.strength, self.entropy = hidden, strength, entropy

    def heads(self, feature_dim: int, classes: int) -> nn.Module:
        """The domain classifier."""
        return nn.Sequential(nn.Linear(feature_dim, self.hidden), nn.ReLU(inplace=True), nn.Linear(self.hidden, 1))

    def schedule(self, progress: float) -> float:
        """The reversal's strength at a share of the fit."""
        return self.strength * (2 / (1 + math.exp(-10 * progress)) - 1)

    def loss(
        self, heads: nn.Module, source: Reading, target: Reading, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        strength = self.schedule(progress)
        logits, domains = self.told(heads, source, target, strength), domain_labels(source, target)
        losses = F.binary_cross_entropy_with_logits(logits, domains, reduction="none")
        loss = self.mean(losses, source, target)
        right = ((logits > 0) == (domains > 0.5)).float().mean()
        figures = {"domain_loss": loss.detach(), "domain_accuracy": right}
        if self.entropy:
            loss = loss + strength * self.entropy * entropies(target.logits).mean()
        return loss, figures

    def told(self, heads: nn.Module, source: Reading, target: Reading, strength: float) -> Tensor:
        """The domain classifier's logits `(B,)` of both halves, above 0 for the target, through the reversal."""
        logits: Tensor = heads(reverse(torch.cat([source.features, target.features]), strength))
        return logits.float()[:, 0]

    def mean(self, losses: Tensor, source: Reading, target: Reading) -> Tensor:
        """The mean of the domain classifier's losses `(B,)`."""
        return losses.mean()


def domain_labels(source: Reading, target: Reading) -> Tensor:
    """0 of source and 1 of target images, float `(B,)`."""
    counts = (len(source.features), len(target.features))
    return torch.cat([torch.zeros(counts[0]), torch.ones(counts[1])]).to(source.features.device)
