"""The gradient reversal layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse(x: Tensor, strength: float = 1.0) -> Tensor:
    """The same values, whose gradient comes back times `−strength` (Ganin et al. 2016, https://arxiv.org/abs/1505.07818).

    >>> x = torch.ones(2, requires_grad=True)
    >>> reverse(3 * x, 0.5).sum().backward()
    >>> x.grad
    tensor([-1.5000, -1.5000])
    """
    reversed_: Tensor = _Reversal.apply(x, strength)
    return reversed_
