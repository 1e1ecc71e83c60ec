"""Random numbers that are a pure function of (seed, stream, epoch, image index, draw).

A stateful generator makes a batch's views depend on everything drawn before it. These numbers do not: the views of
image 17 in epoch 3 are the same on one process or eight, on CPU or GPU, after a resume or without one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def mix(x: Tensor) -> Tensor:
    """Hash 32-bit integers held in int64 (lowbias32, https://nullprogram.com/blog/2018/07/31/): a bijection.

    >>> mix(torch.tensor([0, 1, 2])).tolist()
    [0, 1753845952, 3507691905]
    """
    x = x & _MASK
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def mix_integers(*values: int) -> int:
    """Hash a sequence of integers into one 32-bit integer, order mattering.

    >>> mix_integers(0, 1) != mix_integers(1, 0)
    True
    """
    state = torch.tensor(0x9E3779B9)
    for value in values:
        state = mix(state + mix(torch.tensor(value) + 0x85EBCA6B))
    return int(state)


class KeyedRandom:
    """Per-image random numbers, batched.

    Args:
        index: image indices `(B,)`; the numbers of an image do not depend on its neighbours in the batch.
        seed, epoch: the run's seed and the epoch.
        stream: separates uses that must not share numbers (view 0, view 1, corruption).

    >>> rng = KeyedRandom(torch.tensor([5, 9]), seed=0, epoch=2)
    >>> alone = KeyedRandom(torch.tensor([9]), seed=0, epoch=2)
    >>> bool((rng.uniform(3)[1] == alone.uniform(3)[0]).all())
    True
    """

    def __init__(self, index: Tensor, seed: int, epoch: int = 0, stream: int = 0) -> None:
        run_key = mix_integers(seed, epoch, stream)
        self.key = mix(mix(index.long() + 1) + run_key)  # (B,)
        self.drawn = 0

    def _bits(self, shape: tuple[int, ...]) -> Tensor:
        count = math.prod(shape)
        counter = torch.arange(self.drawn + 1, self.drawn + 1 + count, device=self.key.device)
        self.drawn += count
        return mix(self.key[:, None] ^ mix(counter)).view(-1, *shape)  # (B, *shape)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform floats in [low, high), `(B, *shape)`."""
        return low + (high - low) * ((self._bits(shape) >> 8).float() * 2.0**-24)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal floats `(B, *shape)` by Box and Muller's transform."""
        pairs = (math.prod(shape) + 1) // 2
        radius = (-2.0 * torch.log1p(-self.uniform(pairs))).sqrt()
        angle = self.uniform(pairs) * (2 * math.pi)
        values = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
        return values[:, : math.prod(shape)].view(-1, *shape)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Booleans `(B, *shape)`, true with the given probability."""
        return self.uniform(*shape) < probability
