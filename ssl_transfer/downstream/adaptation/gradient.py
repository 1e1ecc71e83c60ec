"""How much of a gradient comes back through a tensor, measured while it does."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_transfer.downstream.adaptation.base import Reading


class GradientNorm:
    """The norm of all gradients that come back through what it has watched, `value`: 0 before the backward pass.

    Args:
        scale: that gradients are multiplied by, such as the number of batches over which they are accumulated, by which
            the loss was divided.

    >>> x = torch.ones(2, requires_grad=True)
    >>> norm = GradientNorm(x.device)
    >>> (norm.through(x) * torch.tensor([3.0, 4.0])).sum().backward()
    >>> norm.value
    tensor(5.)
    """

    def __init__(self, device: torch.device, scale: float = 1.0) -> None:
        self.value = torch.zeros((), device=device)
        self.scale = scale

    def through(self, part: Tensor) -> Tensor:
        """The same values, as a place of its own: what others make of `part` does not count."""
        again = part.view_as(part)
        if again.requires_grad:
            again.register_hook(self._add)
        return again

    def of(self, reading: Reading) -> Reading:
        """The same reading, watched where the adaptation takes hold of it."""
        return Reading(self.through(reading.features), self.through(reading.logits), reading.plain)

    def _add(self, gradient: Tensor) -> None:
        self.value.copy_(torch.hypot(self.value, self.scale * gradient.detach().float().norm()))
