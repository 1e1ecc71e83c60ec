"""A few points that cover many: greedy k-centre selection."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 2048  # points updated at once: their distances to some centres stay in the cache
POOL = 64  # one point in so many is looked at closely
PENDING = 128  # centres at most that the other points have not seen


def greedy_k_centre(
    points: Tensor,
    count: int,
    projection_dim: int | None = 128,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Indices int64 `(count,)` of points `(N, D)`, each the farthest from those before it; the first is drawn by seed.

    The largest distance of any point to its nearest chosen one is at most twice the least possible (Gonzalez 1985,
    doi 10.1016/0304-3975(85)90224-5); PatchCore (Roth et al. 2022) selects its memory so. Distances are Euclidean (as
    ‖x‖² − 2x·c + ‖c‖²), after a Gaussian random projection to `projection_dim` where D is larger (None: never).

    It is exact but lazy: the farthest points form a pool that is kept up to date with each new centre, and the others,
    whose distances can only fall, follow by one matrix product once they could matter. `progress(done, count)` is
    called now and then.

    >>> greedy_k_centre(torch.tensor([[0.0], [1.0], [9.0], [11.0], [5.0]]), 3, seed=1)
    tensor([0, 3, 4])
    """
    if not 1 <= count <= len(points):
        raise ValueError(f"a coreset of {len(points)} points holds 1 to {len(points)} of them, not {count}")
    x = _projected(points, projection_dim, seed)
    norms = x.square().sum(1)
    distances = torch.full_like(norms, torch.inf)  # squared, to the nearest centre; upper bounds between updates
    first = int(torch.randint(len(x), (1,), generator=torch.Generator().manual_seed(seed)))
    chosen = pending = [first]
    while True:
        _update(distances, x, norms, pending)
        distances[torch.tensor(chosen, device=x.device)] = -1  # never again, even among duplicates
        if progress is not None:
            progress(len(chosen), count)
        if len(chosen) == count:
            return torch.tensor(chosen, device=points.device)
        pending = _farthest(x, norms, distances, min(PENDING, count - len(chosen)))
        chosen = chosen + pending


def _farthest(x: Tensor, norms: Tensor, distances: Tensor, limit: int) -> list[int]:
    """The next centres, up to the first that a point outside the pool may be farther than."""
    size = min(len(x), max(256, len(x) // POOL))
    outside, pool = _pool(distances, size)
    points, lengths, left = x[pool], norms[pool], distances[pool]
    found: list[int] = []
    product = torch.empty_like(left)
    while len(found) < limit:
        value, place = left.max(0)
        at = int(place)
        if found and float(value) <= outside:
            break
        found.append(at)
        torch.addmv(lengths, points, points[at], alpha=-2, out=product)
        product.add_(lengths[at]).clamp_(min=0)
        torch.minimum(left, product, out=left)
        left[at] = -1
    return pool[torch.tensor(found, device=x.device)].tolist()  # type: ignore[no-any-return]


def _pool(distances: Tensor, size: int) -> tuple[float, Tensor]:
    """The largest distance outside the pool, and the pool's indices in rising order, so that ties fall as in argmax."""
    if size == len(distances):
        return -torch.inf, torch.arange(size, device=distances.device)
    largest = distances.topk(size + 1, sorted=True)
    return float(largest.values[-1]), largest.indices[:-1].sort().values


def _update(distances: Tensor, x: Tensor, norms: Tensor, centres: list[int]) -> None:
    """Lower `distances` to the nearest of the new centres, in place."""
    c, lengths = x[torch.tensor(centres, device=x.device)], norms[torch.tensor(centres, device=x.device)]
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        nearest = torch.addmm(lengths, x[rows], c.T, alpha=-2).amin(1)
        torch.minimum(distances[rows], nearest.add_(norms[rows]).clamp_(min=0), out=distances[rows])


def _projected(points: Tensor, dim: int | None, seed: int) -> Tensor:
    """Float32 points about the origin, `(N, min(D, dim))`; distances are kept on average."""
    centre = torch.stack([part.float().mean(0) * (len(part) / len(points)) for part in points.split(ROWS)]).sum(0)
    width = points.shape[1]
    if dim is None or width <= dim:
        return points.float() - centre
    generator = torch.Generator().manual_seed(seed)
    matrix = (torch.randn(width, dim, generator=generator) / dim**0.5).to(points.device)
    x = torch.empty(len(points), dim, device=points.device)
    for start in range(0, len(points), ROWS):
        x[start : start + ROWS] = (points[start : start + ROWS].float() - centre) @ matrix
    return x
