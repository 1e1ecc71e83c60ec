"""New points among fitted ones that stay where they are, by the forces of UMAP."""

from __future__ import annotations

import torch
from torch import Tensor

RATE = 0.25  # of the first epoch; it falls to zero
PUSHES = 5  # fitted points that push for each that pulls
FARTHEST = 4.0  # that one force moves a point at rate one
POINTS = 2**12  # settled at once


def settle(
    start: Tensor, fitted: Tensor, near: Tensor, weights: Tensor, curve: tuple[float, float], epochs: int, seed: int
) -> Tensor:
    """Coordinates `(Q, n)` of points that are drawn from `start (Q, n)` to the rows `near (Q, k)` of `fitted (N, n)`.

    umap-learn draws which neighbours pull in an epoch and what pushes; here each neighbour pulls in every epoch as
    strongly as it would on average, and what pushes is drawn by `seed` alone, the same for all points. So a place is
    continuous in what it follows from, and rounding moves it by no more than rounding.

    Args:
        weights: of the neighbours `(Q, k)`, 1 for the strongest.
        curve: a and b of the nearness 1 / (1 + a d^2b) on the map.
    """
    draws = torch.randint(len(fitted), (epochs, near.shape[1], PUSHES), generator=torch.Generator().manual_seed(seed))
    parts = zip(start.split(POINTS), near.split(POINTS), weights.split(POINTS), strict=True)
    return torch.cat([_settled(at.clone(), fitted, rows, share, curve, draws) for at, rows, share in parts])


def _settled(
    at: Tensor, fitted: Tensor, near: Tensor, weights: Tensor, curve: tuple[float, float], draws: Tensor
) -> Tensor:
    a, b = curve
    pulling = fitted[near].transpose(0, 1).contiguous()  # (k, Q, n)
    shares = weights.T[..., None]  # (k, Q, 1)
    for epoch, drawn in enumerate(draws):
        rate = RATE * (1 - epoch / len(draws))
        for place, share, rows in zip(pulling, shares, drawn, strict=True):
            apart = at - place  # (Q, n)
            squared = apart.square().sum(1, keepdim=True).clamp_min(1e-12)
            pull = apart * (-2 * a * b * squared.pow(b - 1) / (1 + a * squared.pow(b)))
            at += rate * share * pull.clamp(-FARTHEST, FARTHEST)
            apart = at[:, None] - fitted[rows]  # (Q, PUSHES, n)
            squared = apart.square().sum(2, keepdim=True)
            push = apart * (2 * b / ((0.001 + squared) * (1 + a * squared.pow(b))))
            at += rate * share * push.clamp(-FARTHEST, FARTHEST).sum(1)
    return at
