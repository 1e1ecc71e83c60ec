"""Which of many vectors are given again: found at once, and in spite of rounding."""

from __future__ import annotations

import torch
from scipy.spatial import cKDTree
from torch import Tensor

ROUNDING = 1e-5  # of the length of a typical vector: more than features differ by with another batch or processor
NEGLIGIBLE = 1e-4  # of the typical distance of a vector from the mean
DIRECTIONS = 8  # that candidates are found along
CANDIDATES = 8


class Recognised:
    """Finds those of the vectors `(N, D)` that are given again, up to a distance that is no more than rounding.

    A vector given again lies as near or nearer along a few directions: a tree of these finds the candidates, and their
    distances decide.
    """

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors
        self.mean = vectors.mean(0)
        directions = torch.randn(vectors.shape[1], DIRECTIONS, generator=torch.Generator().manual_seed(0))
        self.directions = torch.linalg.qr(directions).Q  # (D, 8), or fewer of fewer features
        spread = (vectors - self.mean).square().sum(1).mean().sqrt()
        self.reach = max(NEGLIGIBLE * float(spread), ROUNDING * float(vectors.norm(dim=1).median()))
        self.tree = cKDTree(self._along(vectors))

    def rows(self, x: Tensor) -> Tensor:
        """The nearest vector of each of x `(Q, D)`, int64 `(Q,)`, the first of equals; −1 where none is so near."""
        most = min(CANDIDATES, len(self.vectors))
        found = self.tree.query(self._along(x), k=list(range(1, most + 1)), distance_upper_bound=1.1 * self.reach)[1]
        candidates = torch.from_numpy(found).long()  # (Q, most), N for none
        rows = torch.full((len(x),), -1)
        least = torch.full((len(x),), torch.inf)
        for column in candidates.T:
            asked = (column < len(self.vectors)).nonzero().flatten()
            row = column[asked]
            distance = (x[asked] - self.vectors[row]).norm(dim=1)
            nearer = (distance < least[asked]) | ((distance == least[asked]) & (row < rows[asked]))
            nearer &= distance <= self.reach
            rows[asked[nearer]], least[asked[nearer]] = row[nearer], distance[nearer]
        return rows

    def _along(self, x: Tensor) -> object:
        return ((x - self.mean) @ self.directions).double().numpy()
