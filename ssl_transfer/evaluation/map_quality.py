"""How far a map can be trusted: figures of coordinates against the vectors that they were made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from torch import Tensor

from ssl_transfer.evaluation.neighbours import all_distances

FEWEST = 5  # points
VOTERS = (1, 10)  # k of the label kNN
TRIPLETS = 50_000
_PART = 2**20  # numbers at a time, so that they stay near the processor


def map_quality(
    space: ArrayLike | Tensor,
    coordinates: ArrayLike | Tensor,
    labels: ArrayLike | Tensor | None = None,
    train: tuple[ArrayLike | Tensor, ArrayLike | Tensor] | None = None,
    k: int | Sequence[int] = (10, 15),
    recall: int | Sequence[int] = (10, 100),
    sample: int = 2000,
    seed: int = 0,
) -> dict[str, float]:
    """Figures of the map `coordinates (N, d)` of the vectors `space (N, D)`; all lie in [0, 1], 1 is best, except the
    correlation, which may be negative.

    - `trustworthiness_K`, `continuity_K`: whether points that are neighbours on the map are so in the space, and the
      reverse (Venna and Kaski 2001, doi 10.1007/3-540-44668-0_68; Kaski et al. 2003, doi 10.1186/1471-2105-4-48).
    - `knn_recall_K`: share of a point's K nearest in the space that are among its K nearest on the map.
    - `distance_spearman`: rank correlation of distances in the space and on the map; 0 where one has no spread.
    - `triplet_agreement`: share of triplets (a, b, c) of which both say the same of whether b or c is nearer to a; a
      tie in one of them counts one half.
    - `knn_accuracy_1`, `knn_accuracy_10`: share of points whose label the majority of their nearest on the map has; in
      a tie the class of the nearest wins.

    The first three and the label kNN are read at `sample` points, drawn by `seed`, against all N: an unbiased estimate,
    and exact where N ≤ sample. Distances are Euclidean; tied distances share their mean rank, so that a map on which
    all points coincide is worth nothing. Memory is a few blocks of distances, never N × N.

    Args:
        space: what the map is measured against: raw pixels, or features.
        coordinates: of the same N points in the same order.
        labels: `(N,)` classes; −1 is none. Without them the label kNN is left out.
        train: coordinates and labels of the images the map was fitted on, whose nearest then vote; otherwise all other
            points of `coordinates` do.
        k: neighbourhoods of trustworthiness and continuity.
        recall: neighbourhoods of the recall.
        sample: how many points to ask.
        seed: draws the points and triplets.

    A neighbourhood that is not below N / 2, where trustworthiness is not defined, is left out of the figures, and so is
    a label kNN with fewer voters than it asks.

    Raises:
        ValueError: fewer than five points, lengths that differ, values that are not finite.

    Example:
        >>> points = torch.arange(100.0)[:, None] ** 2
        >>> map_quality(points, points / 2)["trustworthiness_10"]
        1.0
    """
    high = _vectors(space, "space")
    low = _vectors(coordinates, "coordinates", like=high)
    count = len(high)
    if count < FEWEST:
        raise ValueError(f"the quality of a map needs at least {FEWEST} points, got {count}: give more images")
    if len(low) != count:
        raise ValueError(
            f"coordinates has {len(low)} rows and space {count}: give one row for each vector, in its order"
        )
    if sample < 1:
        raise ValueError(f"sample must be 1 or more, not {sample}")
    generator = torch.Generator().manual_seed(seed)
    queries = _drawn(torch.arange(count), sample, generator).to(high.device)
    figures = _neighbourhoods(high, low, queries, _fitting(k, count, "k"), _fitting(recall, count, "recall"))
    figures |= _distances_kept(high, low, generator)
    if labels is not None:
        figures |= _label_knn(low, _labels(labels, low, "labels"), train, sample, generator)
    return figures


def _neighbourhoods(
    high: Tensor, low: Tensor, queries: Tensor, ks: Sequence[int], recalls: Sequence[int]
) -> dict[str, float]:
    """Trustworthiness, continuity and recall at the rows `queries (Q,)`."""
    count, widest = len(high), max(ks, default=0)
    if not ks and not recalls:
        return {}
    outside, torn, kept = dict.fromkeys(ks, 0.0), dict.fromkeys(ks, 0.0), dict.fromkeys(recalls, 0.0)
    for d_high, d_low in zip(_own_distances(high, queries), _own_distances(low, queries), strict=True):
        near_high, near_low = (d.topk(max([*ks, *recalls]), largest=False).indices for d in (d_high, d_low))
        in_high, in_low = _ranks(d_high, near_low[:, :widest]), _ranks(d_low, near_high[:, :widest])
        for k in ks:
            outside[k] += float((in_high[:, :k] - k).clamp(min=0).sum(dtype=torch.float64))
            torn[k] += float((in_low[:, :k] - k).clamp(min=0).sum(dtype=torch.float64))
        for k in recalls:
            kept[k] += float((near_high[:, :k, None] == near_low[:, None, :k]).sum())
    asked = len(queries)
    worst = {k: asked * k * (2 * count - 3 * k - 1) / 2 for k in ks}  # the largest sum of what ranks exceed k by
    return (
        {f"trustworthiness_{k}": 1 - outside[k] / worst[k] for k in ks}
        | {f"continuity_{k}": 1 - torn[k] / worst[k] for k in ks}
        | {f"knn_recall_{k}": kept[k] / (asked * k) for k in recalls}
    )


def _own_distances(points: Tensor, queries: Tensor) -> Iterator[Tensor]:
    """Distances `(rows, N)` or their squares from queries `(Q,)` to points `(N, D)`, infinite to oneself, in blocks."""
    for start, distances in all_distances(points[queries], points):
        own = queries[start : start + len(distances)]
        distances[torch.arange(len(own), device=own.device), own] = torch.inf
        yield distances


def _ranks(distances: Tensor, places: Tensor) -> Tensor:
    """Ranks `(rows, k)`, the nearest is 1 and ties share their mean, of `places (rows, k)` among distances `(rows, N)`.

    Each row's own distance is infinite.
    """
    ranks = torch.empty(places.shape, device=distances.device)
    others = distances.shape[1] - 1
    rows = max(1, _PART // distances.shape[1])
    for start in range(0, len(distances), rows):
        part = distances[start : start + rows]
        asked = part.gather(1, places[start : start + rows])
        for j in range(places.shape[1]):
            farther_less_nearer = (part - asked[:, j : j + 1]).sign_().sum(1) - 1  # but for oneself
            ranks[start : start + rows, j] = (others + 1 - farther_less_nearer) / 2
    return ranks


def _distances_kept(high: Tensor, low: Tensor, generator: torch.Generator) -> dict[str, float]:
    """Rank correlation and triplet agreement of distances."""
    count = len(high)
    first = torch.randint(count, (TRIPLETS,), generator=generator)
    second = (first + torch.randint(1, count, (TRIPLETS,), generator=generator)) % count
    third = (first + torch.randint(1, count, (TRIPLETS,), generator=generator)) % count
    different = second != third
    a, b, c = (one[different].to(high.device) for one in (first, second, third))
    (ab_high, ac_high), (ab_low, ac_low) = ((_pairs(x, a, b), _pairs(x, a, c)) for x in (high, low))
    same = (ab_high - ac_high).sign() * (ab_low - ac_low).sign()  # 1 agrees, −1 does not, 0 is a tie
    return {
        "distance_spearman": _spearman(ab_high, ab_low),
        "triplet_agreement": float((1 + same).mean() / 2),
    }


def _pairs(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Distances `(M,)` of the rows a and b `(M,)` of `x (N, D)`."""
    rows = max(1, _PART // x.shape[1])
    return torch.cat([(x[i] - x[j]).norm(dim=1) for i, j in zip(a.split(rows), b.split(rows), strict=True)])


def _spearman(one: Tensor, other: Tensor) -> float:
    ranks = np.stack([rankdata(values.cpu().numpy()) for values in (one, other)])
    ranks -= ranks.mean(1, keepdims=True)
    norms = np.linalg.norm(ranks, axis=1)
    return float(ranks[0] @ ranks[1] / norms.prod()) if norms.all() else 0.0


def _label_knn(
    low: Tensor,
    labels: Tensor,
    train: tuple[ArrayLike | Tensor, ArrayLike | Tensor] | None,
    sample: int,
    generator: torch.Generator,
) -> dict[str, float]:
    """Accuracy of the label kNN at a sample of the labelled points of the map `low (N, d)`."""
    labelled = _drawn((labels >= 0).nonzero().flatten().cpu(), sample, generator).to(low.device)
    bank, classes = (low, labels) if train is None else (_vectors(train[0], "train", like=low), train[1])
    if bank.shape[1] != low.shape[1]:
        raise ValueError(
            f"train has {bank.shape[1]} coordinates and the map {low.shape[1]}: give those of one reduction"
        )
    classes = _labels(classes, bank, "the labels of train")
    voting = classes >= 0
    others = int(voting.sum()) - (train is None)
    ks = [k for k in VOTERS if k <= others]
    if not ks or not len(labelled):
        return {}
    places = torch.full((len(bank),), -1, device=low.device)  # of a point among those that vote
    places[voting] = torch.arange(int(voting.sum()), device=low.device)
    bank, classes = bank[voting], classes[voting]
    right = dict.fromkeys(ks, 0)
    for start, distances in all_distances(low[labelled], bank):
        asked = labelled[start : start + len(distances)]
        if train is None:
            distances[torch.arange(len(asked), device=low.device), places[asked]] = torch.inf
        nearest = classes[distances.topk(max(ks), largest=False).indices]  # (rows, k)
        for k in ks:
            right[k] += int((_majority(nearest[:, :k]) == labels[asked]).sum())
    return {f"knn_accuracy_{k}": right[k] / len(labelled) for k in ks}


def _majority(votes: Tensor) -> Tensor:
    """The class most frequent in each row of `votes (Q, k)`, nearest first; in a tie that of the nearest."""
    weights = 1 + 0.5 ** torch.arange(1.0, votes.shape[1] + 1, device=votes.device)  # what is added sums to less than 1
    totals = (votes[:, :, None] == votes[:, None, :]).float() @ weights  # (Q, k): votes for the class of each voter
    return votes.gather(1, totals.argmax(1, keepdim=True)).flatten()


def _drawn(rows: Tensor, sample: int, generator: torch.Generator) -> Tensor:
    """At most `sample` of the rows, in their order."""
    if len(rows) <= sample:
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:sample].sort().values]


def _fitting(ks: int | Sequence[int], count: int, name: str) -> list[int]:
    """Those of the neighbourhoods that are below half of the points."""
    asked = [ks] if isinstance(ks, int) else list(ks)
    if any(one < 1 for one in asked):
        raise ValueError(f"{name} must be 1 or more, not {min(asked)}")
    return sorted({one for one in asked if 2 * one < count})


def _vectors(given: ArrayLike | Tensor, name: str, like: Tensor | None = None) -> Tensor:
    """Vectors `(N, D)` as finite float32, on the device of those that they are `like`."""
    x = given.detach() if isinstance(given, Tensor) else torch.tensor(np.asarray(given))
    x = (x if like is None else x.to(like.device)).float()
    if x.ndim != 2 or not x.shape[1]:
        raise ValueError(f"{name} must be vectors (N, D), not of shape {tuple(x.shape)}")
    broken = ~torch.isfinite(x).all(1)
    if bool(broken.any()):
        first = int(broken.nonzero()[0])
        raise ValueError(f"{int(broken.sum())} of {len(x)} rows of {name} are not finite (the first is {first})")
    return x


def _labels(given: ArrayLike | Tensor, points: Tensor, name: str) -> Tensor:
    labels = (given if isinstance(given, Tensor) else torch.tensor(np.asarray(given))).to(points.device).flatten()
    if len(labels) != len(points):
        raise ValueError(f"{name}: {len(labels)} for {len(points)} points; give one each, −1 where there is none")
    return labels
