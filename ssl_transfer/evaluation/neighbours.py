"""The nearest rows of a set of vectors: exact, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2**24  # distances held at once
NARROW = 16  # up to this width distances are computed by differences, which lose no digits
_PART = 2**22  # numbers of candidates held at once


def nearest(bank: Tensor, k: int, queries: Tensor | None = None, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Euclidean distances and indices `(Q, k)`, both ascending by distance, of the rows of `bank (N, D)` nearest to
    `queries (Q, D)`.

    Without queries the bank is searched for itself, and no row is its own neighbour (a duplicate may be).
    Memory is `block` distances, never Q × N. For cosine neighbours give rows of unit length.

    Rows of up to 16 numbers are compared by differences: exact in float32. Of wider ones 2k + 8 candidates are chosen
    by the matrix form of the distance, and the k nearest of these by differences: exact unless so many candidates lie
    nearer to each other than the matrix form can tell, in squares about 1e-6 of those of the distances from the mean.

    >>> nearest(torch.tensor([[0.0], [1.0], [3.0]]), k=1)[1].flatten().tolist()
    [1, 0, 1]
    """
    own = queries is None
    most = len(bank) - own
    assert 1 <= k <= most, f"k must be within 1 and {most}, not {k}"
    bank = bank.float()
    asked = bank if queries is None else queries.float()
    found: list[tuple[Tensor, Tensor]] = []
    for start, distances in all_distances(asked, bank, block):
        if own:
            rows = torch.arange(len(distances), device=bank.device)
            distances[rows, rows + start] = torch.inf
        if bank.shape[1] <= NARROW:
            values, indices = distances.topk(k, dim=1, largest=False)
            found.append((values, indices))
        else:
            candidates = distances.topk(min(2 * k + 8, most), dim=1, largest=False).indices
            found.append(_nearest_of(asked[start : start + len(distances)], bank, candidates, k))
    if not found:
        return asked.new_empty(0, k), torch.empty(0, k, dtype=torch.int64, device=bank.device)
    values, indices = (torch.cat(column) for column in zip(*found, strict=True))
    return values, indices


def all_distances(queries: Tensor, bank: Tensor, block: int = BLOCK) -> Iterator[tuple[int, Tensor]]:
    """Distances `(rows, N)`, or of vectors above 16 numbers their squares, in blocks of queries `(Q, D)`, each with the
    number of its first query.

    Of narrow vectors by differences, of others as `squared_distances`.
    """
    if bank.shape[1] > NARROW:
        centre = bank.mean(0)
        yield from squared_distances(queries - centre, bank - centre, block)
        return
    rows = max(1, block // max(1, len(bank)))
    for start in range(0, len(queries), rows):
        part = queries[start : start + rows]
        yield start, torch.cdist(part, bank, compute_mode="donot_use_mm_for_euclid_dist")


def squared_distances(queries: Tensor, bank: Tensor, block: int = BLOCK) -> Iterator[tuple[int, Tensor]]:
    """Squared Euclidean distances `(rows, N)` in blocks of queries `(Q, D)`, each with the number of its first query.

    In the matrix form, so up to float32's cancellation: centre both sets first.
    """
    norms = bank.square().sum(1)
    rows = max(1, block // max(1, len(bank)))
    for start in range(0, len(queries), rows):
        part = queries[start : start + rows]
        yield start, torch.addmm(norms, part, bank.T, alpha=-2).add_(part.square().sum(1, keepdim=True)).clamp_(min=0)


def _nearest_of(queries: Tensor, bank: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances and indices `(Q, k)` of the nearest of `candidates (Q, C)`, by differences."""
    rows = max(1, _PART // (candidates.shape[1] * bank.shape[1]))
    parts = zip(queries.split(rows), candidates.split(rows), strict=True)
    distances = torch.cat([bank[near].sub_(part[:, None]).square_().sum(2).sqrt_() for part, near in parts])
    order = distances.sort(dim=1, stable=True)
    return order.values[:, :k], candidates.gather(1, order.indices[:, :k])
