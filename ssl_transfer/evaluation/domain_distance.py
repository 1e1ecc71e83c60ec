"""How far apart two sets of images lie by their features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_transfer.evaluation.probes import LinearHead, Rotated, accuracy, solve_logistic

FEWEST_JUDGED = 0.9  # of the second set, whose classes must have enough rows to be told apart within them
FEWEST_ROWS = 4  # of a class, of either set
SAME = 1e-3  # of their spread: numbers that are no further apart are of one image, or as good as one
BLOCK = 8  # neighbouring rows that are taught, or judged, together
ROWS_A_COMPONENT = 20  # that are taught from, or judged
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
    """How well two sets are told apart class by class, as a proxy A-distance, and its standard error.

    Of each class as many rows of either set are drawn by `seed` as the poorer has; half of each class teaches a
    logistic regression of sets, on leading principal components and their squares, and it is judged by the other half,
    in turn. Accuracies of classes are weighted by their frequencies in the second set. About 0 where only the
    frequencies of classes differ; unlike `proxy_a_distance` it may be negative. first `(N, D)` with classes `(N,)`,
    second `(M, D)` with `(M,)`. NaN where more than a tenth of the second set is of classes of which a set has fewer
    than four rows. The standard error is that of a distance of 0, of the rows that are judged alone: a gap that takes
    more rows to be learnt is not seen.

    >>> x, classes = torch.tensor([[0.0], [9.0]]).repeat(8, 1), torch.tensor([0, 1]).repeat(8)
    >>> distance_within_classes(x, classes, x[::2].repeat(9, 1), classes[::2].repeat(9))[0]
    0.0
    """
    drawn = _matched(first, first_classes, second, second_classes, seed)
    weights = torch.tensor([float((second_classes == each).sum()) for each in drawn], dtype=torch.double)
    if not drawn or weights.sum() < FEWEST_JUDGED * len(second):
        return math.nan, math.nan
    counts = torch.tensor([len(own) for own, _ in drawn.values()])
    right = _told_apart(first, second, list(drawn.values()))
    share = weights / weights.sum()
    of_class = torch.stack([each.mean() for each in right.split((2 * counts).tolist())])
    error = 4 * float((share.square() / (4 * 2 * counts)).sum().sqrt())
    return float(4 * (share * of_class).sum() - 2), error


def _matched(
    first: Tensor, first_classes: Tensor, second: Tensor, second_classes: Tensor, seed: int
) -> dict[int, tuple[Tensor, Tensor]]:
    """By class: as many rows of either set, neighbours side by side."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(first.shape[1], generator=generator).to(first.device)
    rows = {}
    for each in first_classes.unique().tolist():
        found = [torch.nonzero(classes == each).flatten() for classes in (first_classes, second_classes)]
        count = min(map(len, found))
        if count >= FEWEST_ROWS:
            drawn = [own[torch.randperm(len(own), generator=generator)[:count].to(own.device)] for own in found]
            along = [values[own].float() @ direction for values, own in zip((first, second), drawn, strict=True)]
            orders = _side_by_side(along[0], along[1])
            rows[each] = (drawn[0][orders[0]], drawn[1][orders[1]])
    return rows


def _side_by_side(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Orders of as many numbers: first those that both have, in pairs, and then the others, ascending."""
    orders = first.argsort(), second.argsort()
    a, b = first[orders[0]], second[orders[1]]
    spread = torch.cat([a, b]).std()
    place = torch.searchsorted(b, a).clamp(max=len(b) - 1)
    before = (place - 1).clamp(min=0)
    nearest = torch.where((b[before] - a).abs() < (b[place] - a).abs(), before, place)
    twins = torch.nonzero((b[nearest] - a).abs() <= SAME * spread).flatten()
    twins = twins[torch.cat([torch.ones_like(twins[:1], dtype=torch.bool), nearest[twins].diff() > 0])]  # each once
    partners = nearest[twins]
    others = [
        torch.ones(len(own), dtype=torch.bool, device=own.device).scatter(0, used, False).nonzero().flatten()
        for own, used in ((a, twins), (b, partners))
    ]
    return orders[0][torch.cat([twins, others[0]])], orders[1][torch.cat([partners, others[1]])]


def _told_apart(first: Tensor, second: Tensor, rows: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Which rows of either set, class after class, are told to be of it by a classifier that has not seen them.

    Neighbours go to the same half: were an image in both sets, and one of the two taught, the other would be told
    wrong.
    """
    x = torch.cat([torch.cat([first[own].float(), second[its].float()]) for own, its in rows])
    origin = torch.cat([torch.arange(2 * len(own)) >= len(own) for own, _ in rows]).long().to(x.device)
    blocks = [torch.arange(len(own)) // min(BLOCK, len(own) // 2) % 2 for own, _ in rows]
    half = torch.cat([torch.cat([own, own]) for own in blocks]).to(x.device)
    right = torch.full((len(x),), 0.5, dtype=torch.double)
    for judged in (half == 0, half == 1):
        taught, asked = _leading(x, ~judged)
        if taught.shape[1]:  # not all rows are one
            head = solve_logistic(taught, origin[~judged], 2, _L2)
            right[judged.cpu()] = ((_difference(head, asked) > 0) == origin[judged].bool()).double().cpu()
    return right


def _leading(x: Tensor, taught: Tensor) -> tuple[Tensor, Tensor]:
    """Leading principal components of the rows that are taught, and their squares: of these rows, and of the others."""
    own = Rotated.of(x[taught])
    keep = own.variances.argsort(descending=True)[: max(2, len(x) // ROWS_A_COMPONENT)]
    others = (x[~taught] - own.mean) / own.scale @ own.axes
    parts = [rows[:, keep] / own.variances[keep].sqrt() for rows in (own.x, others)]
    return torch.cat([parts[0], parts[0].square()], 1), torch.cat([parts[1], parts[1].square()], 1)


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
