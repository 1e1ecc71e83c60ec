"""What is usual at each place of an image: a heat there counts by how far it is from that."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Usual(NamedTuple):
    """Mean and deviation `(h, w)` of the maps of normal images, at each place."""

    mean: Tensor
    deviation: Tensor


def usual(maps: Tensor) -> Usual:
    """What is usual in maps `(N, h, w)`. A place's deviation is drawn halfway to that of all places, as N is small.

    >>> usual(torch.tensor([[[0.0, 5.0]], [[2.0, 5.0]]])).deviation
    tensor([[0.7500, 0.2500]])
    """
    mean, deviation = maps.mean(0), maps.std(0, correction=0)
    least = 1e-3 * mean.mean().clamp_min(1e-6)  # where all are alike
    return Usual(mean, ((deviation + deviation.mean()) / 2).clamp_min(least))


def unusual(maps: Tensor, by: Usual) -> Tensor:
    """Deviations of maps `(…, h, w)` from what is usual at each place."""
    return (maps - by.mean) / by.deviation


def unusual_among_others(maps: Tensor) -> Tensor:
    """Maps `(N, h, w)`, each by what is usual in the others; N is 2 or more."""
    return torch.stack([unusual(one, usual(torch.cat([maps[:i], maps[i + 1 :]]))) for i, one in enumerate(maps)])
