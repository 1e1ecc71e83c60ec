"""The nearest rows of a bank, of which a graph holds every step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

HELD = 2**20  # distances of one image that are held at once


class NearestRows(nn.Module):
    """Nearest rows of a bank `(M, D)` by Euclidean distance: the matrix form chooses, differences tell how far.

    Args:
        bank: any precision; it is kept as float32 about its mean, where products lose few digits.
        queries: rows that an image asks for at once; the bank is gone through in parts that suit.

    >>> distances, rows = NearestRows(torch.tensor([[0.0], [2.0], [9.0]]))(torch.tensor([[8.0]]), 2)
    >>> distances, rows
    (tensor([[1., 6.]]), tensor([[2, 1]]))
    """

    centre: Tensor
    rows: Tensor
    norms: Tensor

    def __init__(self, bank: Tensor, queries: int = 1) -> None:
        super().__init__()
        bank = bank.float()
        centre = bank.mean(0)
        self.columns = max(256, min(65_536, HELD // queries))
        self.register_buffer("centre", centre)
        self.register_buffer("rows", (bank - centre).contiguous())
        self.register_buffer("norms", self.rows.square().sum(1))

    def forward(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances and indices `(Q, k)`, both by rising distance, of queries `(Q, D)`."""
        queries = queries - self.centre
        values, indices = [], []
        for start in range(0, self.rows.shape[0], self.columns):
            part = slice(start, start + self.columns)
            rough = torch.addmm(self.norms[part], queries, self.rows[part].T, alpha=-2)  # (Q, columns)
            found, at = lowest(rough, min(k, rough.shape[1]))
            values.append(found)
            indices.append(at + start if start else at)
        near = indices[0]
        if len(values) > 1:
            best = lowest(torch.cat(values, dim=1), k)[1]
            near = torch.cat(indices, dim=1).gather(1, best)
        distances = (queries[:, None] - self.rows[near]).square().sum(2).sqrt()
        if k == 1:
            return distances, near
        distances, order = lowest(distances, k)
        return distances, near.gather(1, order)


def lowest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k lowest of each row of x `(Q, N)`, rising, and their columns."""
    if k == 1:
        return x.min(1, keepdim=True)
    return x.topk(k, dim=1, largest=False)
