"""CDAN: features and answers together, from which nobody can tell the domain."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_transfer.downstream.adaptation.base import Reading
from ssl_transfer.downstream.adaptation.dann import DANN
from ssl_transfer.downstream.adaptation.joint import OuterProduct, RandomProduct
from ssl_transfer.downstream.adaptation.reversal import reverse
from ssl_transfer.evaluation.validators import entropies

WIDEST = 4_096  # outer product that is computed as it is, as in the paper


class CDAN(DANN):
    """Conditional adversarial training (Long et al. 2018, https://arxiv.org/abs/1705.10667), with entropy weights.

    The domain classifier sees the outer product of features and class probabilities, so that class by class is
    aligned; images that the classifier is sure of count more (CDAN+E). Where the product is wider than 4,096 it is
    replaced by a random map into 1,024 numbers, as in the paper, whose inner products are the same on average.

    Args:
        hidden, strength, entropy: as of `DANN`.

    >>> CDAN().heads(8, 10)["joint"].width, CDAN().heads(512, 10)["joint"].width
    (80, 1024)
    """

    def heads(self, feature_dim: int, classes: int) -> nn.Module:
        """What makes one vector of features and probabilities, and the domain classifier."""
        joint = (RandomProduct if feature_dim * classes > WIDEST else OuterProduct)(feature_dim, classes)
        return nn.ModuleDict({"joint": joint, "classifier": super().heads(joint.width, classes)})

    def told(self, heads: nn.Module, source: Reading, target: Reading, strength: float) -> Tensor:
        assert isinstance(heads, nn.ModuleDict)
        inputs = torch.cat([heads["joint"](own.features, own.logits) for own in (source, target)])
        logits: Tensor = heads["classifier"](reverse(inputs, strength))
        return logits.float()[:, 0]

    def mean(self, losses: Tensor, source: Reading, target: Reading) -> Tensor:
        """Weighted within each domain, by how sure the classifier is."""
        halves = []
        for own in (source, target):
            sure = 1 + torch.exp(-entropies(own.logits.detach()))
            halves.append(sure / sure.sum())
        return (torch.cat(halves) * losses).sum() / 2
