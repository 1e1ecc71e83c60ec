"""A network that places vectors among landmarks: some of the training points, whose coordinates it learns."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_transfer.downstream.reductions.networks import Standardised

WIDTH = 128  # principal components that distances to landmarks are taken in
NEAREST = 16  # landmarks that a point is placed by
POWER = 4.0  # a landmark's weight falls with this power of the squared distance
STEPS = 2  # towards the place of a point
BLOCK = 2**23  # distances held at once


class LandmarkNetwork(Standardised):
    """Vectors `(B, D)` to coordinates `(B, n_components)`: placed among the nearest of `count` landmarks.

    unit: vectors are brought to unit length first, so that distances are those of the cosine.
    """

    def __init__(self, width: int, count: int, n_components: int, unit: bool = False) -> None:
        super().__init__(width, Landmarks(width, count, n_components))
        self.unit = unit

    @property
    def landmarks(self) -> Landmarks:
        """The last step."""
        landmarks = self[1]
        assert isinstance(landmarks, Landmarks)
        return landmarks

    def forward(self, x: Tensor) -> Tensor:  # (B, D) -> (B, n)
        """Coordinates of vectors as they are."""
        return self.landmarks(self.prepare(x))

    def prepare(self, x: Tensor) -> Tensor:
        """Vectors as the landmarks see them: `(B, D)` at unit length where asked for, standardised."""
        return self[0](functional.normalize(x, dim=1) if self.unit else x)

    def placing(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """From rows of vectors `(N, D)` to their coordinates, as the places learn: the nearest are found once."""
        rows = max(1, BLOCK // len(self.landmarks.vectors))
        with torch.no_grad():
            parts = [self.landmarks.near(self.prepare(part)) for part in x.split(rows)]
        near, weights = (torch.cat(column) for column in zip(*parts, strict=True))
        return lambda rows: self.landmarks.place(near[rows], weights[rows])

    def measure(self, x: Tensor) -> None:
        """Take mean and scale of vectors `(N, D)`."""
        super().measure(functional.normalize(x, dim=1) if self.unit else x)


class Landmarks(nn.Module):
    """Places vectors where the attraction of their nearest landmarks balances.

    A vector has the weights w of its 16 nearest landmarks, which fall steeply with the distance (Shepard's inverse
    distances). It lies at the local minimum of Σ w · log(1 + d²), the attraction of InfoNC-t-SNE, d the distance on
    the map, that two steps reach from the landmark with the most company: at the side of like landmarks, never
    half-way between two groups of them, as the mean would be.

    Attributes:
        places: coordinates of the landmarks `(count, n_components)`, the only parameter.
    """

    basis: Tensor
    vectors: Tensor

    def __init__(self, width: int, count: int, n_components: int) -> None:
        super().__init__()
        inner = min(width, max(WIDTH, n_components))
        self.register_buffer("basis", torch.zeros(width, inner))
        self.register_buffer("vectors", torch.zeros(count, inner))
        self.places = nn.Parameter(torch.zeros(count, n_components))

    def choose(self, x: Tensor, spread: float, generator: torch.Generator) -> None:
        """Take the basis, the landmarks and their first coordinates from vectors `(N, D)`.

        The landmarks are drawn from the rows; they start at their principal components, `spread` the standard
        deviation of the first.
        """
        count, inner = self.vectors.shape
        some = x[torch.randperm(len(x), generator=generator)[:10_000].to(x.device)]
        rank = min(inner, *some.shape)
        self.basis[:, :rank] = torch.svd_lowrank(some, q=rank, niter=4)[2]
        rows = torch.randperm(len(x), generator=generator)[:count].to(x.device)
        self.vectors.copy_(x[rows] @ self.basis)
        first = self.vectors[:, : self.places.shape[1]]
        first = spread * first / first[:, 0].std().clamp_min(1e-12)
        noise = torch.randn(first.shape, generator=generator).to(first.device)
        with torch.no_grad():
            self.places.copy_(first + 0.01 * spread * noise)  # a flat direction can only be left with some noise

    def forward(self, x: Tensor) -> Tensor:  # (B, D) -> (B, n)
        """Coordinates of standardised vectors."""
        return self.place(*self.near(x))

    def near(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest landmarks of vectors `(B, D)` and their weights, which add up to 1: two `(B, 16)`."""
        x = x @ self.basis
        squared = torch.addmm(self.vectors.square().sum(1), x, self.vectors.T, alpha=-2)  # less |x|², (B, count)
        near = squared.topk(min(NEAREST, len(self.vectors)), dim=1, largest=False).indices
        exact = (x[:, None] - self.vectors[near]).square().sum(2)  # (B, 16)
        return near, torch.softmax(-POWER * exact.clamp_min(1e-6).log(), dim=1)

    def place(self, near: Tensor, weights: Tensor) -> Tensor:
        """Coordinates `(B, n)` by landmarks and weights `(B, 16)`; gradients reach the places, not the weights."""
        around = self.places[near]  # (B, 16, n)
        with torch.no_grad():
            company = (weights[:, None] / (1 + torch.cdist(around, around).square())).sum(2)  # (B, 16)
            at = around.gather(1, company.argmax(1)[:, None, None].expand(-1, 1, around.shape[2]))  # (B, 1, n)
            for _ in range(STEPS):
                pull = weights / (1 + (at - around).square().sum(2))
                pull = (pull / pull.sum(1, keepdim=True))[..., None]
                at = (pull * around).sum(1, keepdim=True)
        return (pull * around).sum(1)
