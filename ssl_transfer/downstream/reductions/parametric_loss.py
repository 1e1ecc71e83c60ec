"""The contrastive loss of neighbour maps, and the graph of neighbours that it reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ssl_transfer.downstream.reductions.base import METRICS
from ssl_transfer.evaluation.neighbours import nearest

BLOCK = 2**18  # kernel values held at once


def neighbour_graph(vectors: Tensor, k: int, metric: str = "euclidean") -> Tensor:
    """The k nearest other rows of each of the vectors `(N, D)`: indices `(N, k)` int64, nearest first. Exact.

    >>> neighbour_graph(torch.tensor([[0.0], [1.0], [3.0]]), 1).flatten().tolist()
    [1, 0, 1]
    """
    assert metric in METRICS, metric
    vectors = vectors.detach().float()
    return nearest(functional.normalize(vectors, dim=1) if metric == "cosine" else vectors, k)[1]


def neighbour_loss(a: Tensor, b: Tensor) -> Tensor:
    """InfoNC-t-SNE of pairs of neighbours: coordinates a, b `(B, n)`, where a_i and b_i are neighbours.

    With the Cauchy kernel q = 1 / (1 + d²) between any two of the 2B points, each point is to find its neighbour among
    the 2B − 1 others: the mean of −log(q of the pair / sum of q over the others). Damrich, Böhm, Hamprecht and Kobak,
    "From t-SNE to UMAP with contrastive learning" (https://arxiv.org/abs/2206.01816).

    >>> neighbour_loss(torch.zeros(2, 2), torch.zeros(2, 2)).exp()  # all in one place: one of three
    tensor(3.)
    """
    points = torch.cat([a, b]).float()  # (2B, n)
    apart = (a.float() - b.float()).square().sum(1)
    return torch.log1p(apart).mean() + MeanLogOthers.apply(points - points.mean(0).detach())


class MeanLogOthers(torch.autograd.Function):
    """Mean over points `(M, n)` of log(sum over the other points of q = 1 / (1 + d²)), with its gradient.

    A block of rows at a time that stays in the processor's cache, and nothing of M × M is kept for the way back:
    several times as fast as the same by autograd, whose time goes into moving memory.
    """

    @staticmethod
    def forward(ctx: Any, points: Tensor) -> Tensor:
        """Value and, where it is asked for, gradient; the gradient of point i is
        −2 / M · Σ over k of (q² / sum of i's row + q² / sum of k's row)(point i − point k)."""
        count = len(points)
        norms = points.square().sum(1)
        value = points.new_zeros(())
        weight, pull = points.new_zeros(count), torch.zeros_like(points)
        rows = max(1, BLOCK // count)
        for start in range(0, count, rows):
            part = slice(start, start + rows)
            own = points[part]
            kernel = torch.addmm(norms, own, points.T, alpha=-2).add_(norms[part, None]).clamp_(min=0)  # (rows, M): d²
            kernel = kernel.add_(1).reciprocal_()
            kernel.diagonal(start).zero_()
            total = kernel.sum(1)
            value += total.log().sum()
            if ctx.needs_input_grad[0]:
                share = kernel.square_().div_(total[:, None])
                weight += share.sum(0)
                weight[part] += share.sum(1)
                pull[part] += share @ points
                pull += share.T @ own
        ctx.save_for_backward((points * weight[:, None] - pull) * (-2 / count))
        return value / count

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:  # type: ignore[override]
        """The gradient is known already."""
        (gradient,) = ctx.saved_tensors
        return upstream * gradient
