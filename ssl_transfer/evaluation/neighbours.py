"""The nearest rows of a set of vectors: exact, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2**24  # distances held at once


def nearest(bank: Tensor, k: int, queries: Tensor | None = None, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Euclidean distances and indices `(Q, k)`, both ascending by distance, of the rows of `bank (N, D)` nearest to
    `queries (Q, D)`.

    Without queries the bank is searched for itself, and no row is its own neighbour (a duplicate may be).
    Memory is `block` distances, never Q × N. Rows are chosen by the matrix form of the distance in float32, and the
    distances of the chosen computed anew. For cosine neighbours give rows of unit length.

    >>> nearest(torch.tensor([[0.0], [1.0], [3.0]]), k=1)[1].flatten().tolist()
    [1, 0, 1]
    """
    own = queries is None
    most = len(bank) - own
    assert 1 <= k <= most, f"k must be within 1 and {most}, not {k}"
    centre = bank.float().mean(0)
    bank = bank.float() - centre
    asked = bank if queries is None else queries.float() - centre
    found = []
    for start, squared in squared_distances(asked, bank, block):
        if own:
            rows = torch.arange(len(squared), device=bank.device)
            squared[rows, rows + start] = torch.inf
        found.append(squared.topk(k, dim=1, largest=False).indices)
    indices = torch.cat(found)
    distances = torch.stack([(asked - bank[indices[:, j]]).square().sum(1).sqrt() for j in range(k)], dim=1)
    order = distances.sort(dim=1, stable=True)
    return order.values, indices.gather(1, order.indices)


def squared_distances(queries: Tensor, bank: Tensor, block: int = BLOCK) -> Iterator[tuple[int, Tensor]]:
    """Squared Euclidean distances `(rows, N)` in blocks of queries `(Q, D)`, each with the number of its first query.

    In the matrix form, so up to float32's cancellation: centre both sets first.
    """
    norms = bank.square().sum(1)
    rows = max(1, block // max(1, len(bank)))
    for start in range(0, len(queries), rows):
        part = queries[start : start + rows]
        yield start, torch.addmm(norms, part, bank.T, alpha=-2).add_(part.square().sum(1, keepdim=True)).clamp_(min=0)
