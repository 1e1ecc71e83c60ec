"""How far apart two sets of images lie by their features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_transfer.evaluation.probes import LinearHead, Rotated, accuracy, solve_logistic

_L2 = 1e-2  # of the classifier: with few images and wide features it would otherwise learn by heart


def proxy_a_distance(first: Tensor, second: Tensor, seed: int = 0, l2: float = _L2) -> float:
    """How well a linear classifier tells two sets apart: 0 not at all, 2 without an error.

    2 (1 − 2 ε), not below 0, of the error ε on held-out rows (Ben-David et al. 2007,
    https://papers.nips.cc/paper/2983). first `(N, D)`, second `(M, D)`; as many rows of either are drawn by `seed`;
    each half is judged by what the other has taught. Where there are fewer than four rows of either it is not a number.

    >>> near = proxy_a_distance(torch.zeros(40, 2), torch.zeros(40, 2))
    >>> near, proxy_a_distance(torch.zeros(40, 2), torch.ones(40, 2))
    (0.0, 2.0)
    """
    count = min(len(first), len(second)) // 2 * 2
    if count < 4:
        return float("nan")
    generator = torch.Generator().manual_seed(seed)
    drawn = [rows[torch.randperm(len(rows), generator=generator)[:count].to(rows.device)] for rows in (first, second)]
    parts = [torch.cat([rows[turn::2] for rows in drawn]).float() for turn in (0, 1)]
    origin = (torch.arange(count, device=first.device) >= count // 2).long()
    right = [
        accuracy(solve_logistic(parts[teach], origin, 2, l2)(parts[judge]), origin) for teach, judge in ((0, 1), (1, 0))
    ]
    error = 1 - sum(right) / 2
    return max(0.0, 2 * (1 - 2 * error))


def distance_within_classes(
    first: Tensor, first_classes: Tensor, second: Tensor, second_classes: Tensor, seed: int = 0
) -> tuple[float, float]:
    """The proxy A-distance of two sets of rows with classes made equally frequent, and its standard error.

    Of each class as many rows of either set are drawn by `seed` as the poorer has. What is left is how much the sets
    differ within classes: 0 where only the classes' frequencies do. first `(N, D)` with classes `(N,)`, second
    `(M, D)` with `(M,)`. The error is that of as many coins as there are rows: the largest, that of a distance of 0.

    >>> x, classes = torch.tensor([[0.0], [9.0]]).repeat(8, 1), torch.tensor([0, 1]).repeat(8)
    >>> distance_within_classes(x, classes, x[::2].repeat(9, 1), classes[::2].repeat(9))[0]
    0.0
    """
    generator = torch.Generator().manual_seed(seed)
    rows: tuple[list[Tensor], list[Tensor]] = ([], [])
    for each in first_classes.unique():
        own = [torch.nonzero(classes == each).flatten().cpu() for classes in (first_classes, second_classes)]
        count = min(map(len, own))
        for kept, found in zip(rows, own, strict=True):
            kept.append(found[torch.randperm(len(found), generator=generator)[:count]])
    drawn = [values[torch.cat(kept).to(values.device)] for values, kept in zip((first, second), rows, strict=True)]
    count = len(drawn[0]) // 2 * 2
    error = 4 * 0.5 / (2 * count) ** 0.5 if count else float("nan")
    return proxy_a_distance(drawn[0], drawn[1], seed), error


def domain_logits(first: Tensor, second: Tensor, seed: int = 0, grid: Sequence[float] = (_L2,)) -> Tensor:
    """Held-out logits `(G, N + M)` that a row is of the second set, for each l2 of a falling grid.

    first `(N, D)`, second `(M, D)`; halves are drawn by `seed`, and each is judged by what the other has taught.

    >>> domain_logits(torch.zeros(4, 2), torch.ones(4, 2)).sign().tolist()
    [[-1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0]]
    """
    generator = torch.Generator().manual_seed(seed)
    halves = [torch.randperm(len(rows), generator=generator) % 2 for rows in (first, second)]
    half = torch.cat(halves).to(first.device)
    rows = torch.cat([first, second]).float()
    origin = (torch.arange(len(rows), device=rows.device) >= len(first)).long()
    logits = rows.new_zeros(len(grid), len(rows))
    for judged in (0, 1):
        teach, judge = half != judged, half == judged
        rotated, head = Rotated.of(rows[teach]), None
        for number, l2 in enumerate(grid):
            head = solve_logistic(rotated, origin[teach], 2, l2, start=head)
            logits[number, judge] = _difference(head, rows[judge])
    return logits


def _difference(head: LinearHead, rows: Tensor) -> Tensor:
    answers = head(rows)
    return answers[:, 1] - answers[:, 0]


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Squared Fréchet distance of the Gaussians with the means and covariances of two sets `(N, D)` and `(M, D)`.

    |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½) (Heusel et al. 2017, https://arxiv.org/abs/1706.08500). The trace of the root
    is the sum of the singular values of one set's triangular factor times the other's, so that no covariance is formed
    or needs full rank: fewer rows than features will do. Few rows overestimate it: compare sets of equal sizes.

    >>> x = torch.tensor([[-1.0], [1.0]])
    >>> round(frechet_distance(x, 3 * x + 2), 4)
    12.0
    """
    a, b = _factor(first), _factor(second)
    apart = (first.double().mean(0) - second.double().mean(0)).square().sum()
    common = torch.linalg.svdvals(a @ b.T).sum()
    return max(0.0, float(apart + a.square().sum() + b.square().sum() - 2 * common))


def _factor(rows: Tensor) -> Tensor:
    """R `(min(N, D), D)` with Rᵀ R the covariance of the rows `(N, D)`."""
    x = rows.double()
    x = (x - x.mean(0)) / max(1, len(x) - 1) ** 0.5
    return torch.linalg.qr(x, mode="r").R
