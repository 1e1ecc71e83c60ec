"""Rows brought to one scale: every channel, and then every principal axis, of about one deviation."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 2048  # rows in float64 at once
LEAST = 0.01  # a channel's deviation is taken to be at least so much of the mean one


def whitening(rows: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Centre `(D,)` and axes `(D, K)`, float32: `(x − centre) @ axes` is whitened; K is D, or at most N − 1.

    Each channel is divided by its standard deviation; each principal axis of the result, of variance λ, by
    √(λ + shrinkage · mean λ); and all by √K, so that typical distances are about √2 whatever the width.

    Args:
        rows: `(N, D)`, any precision.
        shrinkage: above 0; a large one leaves the axes as they are.

    >>> centre, axes = whitening(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 40.0], [2.0, 40.0]]), 1e-9)
    >>> centre, ((torch.tensor([[2.0, 40.0]]) - centre) @ axes).norm()
    (tensor([ 1., 20.]), tensor(1.))
    """
    parts = rows.split(ROWS)
    centre = torch.stack([_double(part).sum(0) for part in parts]).sum(0) / len(rows)
    variance = torch.stack([(_double(part) - centre).square().sum(0) for part in parts]).sum(0) / len(rows)
    deviation = variance.sqrt()
    scale = 1 / deviation.clamp_min(LEAST * float(deviation.mean()))
    variances, axes = _principal_axes(rows, centre, scale)
    lengths = (len(variances) * (variances + shrinkage * variances.mean())).sqrt()
    whitened = (scale[:, None] * axes / lengths).float().contiguous()
    return centre.float().to(rows.device), whitened.to(rows.device)


def _principal_axes(rows: Tensor, centre: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Variances `(K,)`, rising, and orthonormal axes `(D, K)` of the scaled rows."""
    count, width = rows.shape
    if count <= width:
        x = (_double(rows) - centre) * scale
        values, left = torch.linalg.eigh(x @ x.T)
        values, left = values[1:].clamp_min(1e-9 * values[-1]), left[:, 1:]  # along the first there is nothing
        return values / count, x.T @ left / values.sqrt()
    total = torch.zeros(width, width, dtype=torch.float64, device=centre.device)
    for part in rows.split(ROWS):
        x = (_double(part) - centre) * scale
        total.addmm_(x.T, x)
    values, axes = torch.linalg.eigh(total / count)
    return values.clamp_min(0), axes


def _double(rows: Tensor) -> Tensor:
    """In float64, on the CPU where the device has none."""
    return (rows.cpu() if rows.device.type == "mps" else rows).double()
