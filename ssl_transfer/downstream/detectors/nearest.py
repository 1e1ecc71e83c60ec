"""The nearest rows of a bank, image by image."""

from __future__ import annotations

import torch
from torch import Tensor

COLUMNS = 4096  # bank rows compared at once


class Nearest:
    """Nearest rows of a bank `(M, D)` by Euclidean distance.

    The matrix form of the distance chooses, and the distances of the chosen are computed anew. Ask for one image's
    patches at a time: products of one shape give the same numbers whatever the batch.
    """

    def __init__(self, bank: Tensor) -> None:
        self.bank = bank
        self.centre = bank.float().mean(0)
        self.norms = torch.cat([self._rows(part).square().sum(1) for part in bank.split(COLUMNS)])

    def __call__(self, queries: Tensor, k: int, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Distances and indices `(Q, k)` of the nearest rows to queries `(Q, D)`; `allowed`: bool `(M,)`."""
        queries = queries - self.centre
        values = torch.full((len(queries), 0), torch.inf, device=queries.device)
        indices = torch.zeros(len(queries), 0, dtype=torch.int64, device=queries.device)
        for start in range(0, len(self.bank), COLUMNS):
            columns = slice(start, start + COLUMNS)
            norms = self.norms[columns]
            if allowed is not None:
                norms = torch.where(allowed[columns], norms, torch.inf)
            rough = torch.addmm(norms, queries, self._rows(self.bank[columns]).T, alpha=-2)  # (Q, columns)
            if k == 1:
                found, at = rough.min(1, keepdim=True)
            else:
                found, at = rough.topk(min(k, rough.shape[1]), dim=1, largest=False)
            values, indices = torch.cat([values, found], dim=1), torch.cat([indices, at + start], dim=1)
        best = values.topk(k, dim=1, largest=False).indices
        indices = indices.gather(1, best)
        distances = torch.stack(
            [(queries - self._rows(self.bank[indices[:, j]])).square().sum(1).sqrt() for j in range(k)], dim=1
        )
        ordered = distances.sort(dim=1)
        return ordered.values, indices.gather(1, ordered.indices)

    def _rows(self, rows: Tensor) -> Tensor:
        return rows.float() - self.centre
