"""No adaptation: the floor of all methods."""

from __future__ import annotations

from torch import Tensor, nn

from ssl_transfer.downstream.adaptation.base import Adaptation, Map, Reading, identity


class SourceOnly(Adaptation):
    """Learn from the source and hope: target images are never looked at.

    >>> SourceOnly().uses_target
    False
    """

    uses_target = False
    measures_norms = False
    spread = "adapt, by another --model.method, such as the one that ssl-transfer shift names"

    def loss(
        self, heads: nn.Module, source: Reading, target: Reading, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return source.logits.sum() * 0, {}

    def align(self, source: Tensor, target: Tensor) -> tuple[Map, Map]:
        return identity(source), identity(target)
