"""How well anomaly scores tell anomalies from normal images, and heat maps the pixels: on plain arrays, ties exact.

Throughout a higher score is more anomalous.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

Metric = Callable[[np.ndarray, np.ndarray], float]  # (anomalous, scores), as in scikit-learn
Pictures = np.ndarray | Sequence[np.ndarray]  # (N, H, W), or (H, W) each

_CHUNK = 2**22  # counts of resamples held at a time


def image_metrics(scores: np.ndarray, anomalous: np.ndarray) -> dict[str, float]:
    """`auroc`, `aupr` (average precision) and `fpr_at_95_tpr` of scores `(N,)` and booleans `(N,)`.

    `fpr_at_95_tpr` is the share of normal images at or above the highest score that at least 95 % of the anomalies
    reach. Raises ValueError for NaN, and where all images are normal or all anomalies.

    >>> image_metrics(np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, False, True, True]))
    {'auroc': 0.875, 'aupr': 0.8333333333333333, 'fpr_at_95_tpr': 0.5}
    """
    scores, anomalous = _checked(scores, anomalous)
    level, levels = _levels(scores)
    normal, abnormal = (np.bincount(level[kind], minlength=levels)[None] for kind in (~anomalous, anomalous))
    return {name: float(metric(normal, abnormal)[0]) for name, metric in _METRICS.items()}


def false_alarm_rate(decisions: np.ndarray, anomalous: np.ndarray) -> float:
    """The share of normal images that are called anomalies; `decisions` `(N,)` true where an image is.

    Raises ValueError without a normal image.
    """
    decisions, anomalous = np.asarray(decisions), np.asarray(anomalous)
    assert decisions.dtype == bool and anomalous.dtype == bool and decisions.shape == anomalous.shape
    if anomalous.all():
        raise ValueError(f"the false-alarm rate needs normal images, and all of the {len(anomalous)} are anomalies")
    return float(decisions[~anomalous].mean())


def class_aurocs(
    scores: np.ndarray, targets: np.ndarray, normal: Sequence[int], classes: Sequence[str]
) -> dict[str, float]:
    """AUROC of the anomalies of each class against all normal images, by class name; classes without images are absent.

    Args:
        scores: `(N,)`.
        targets: `(N,)`, -1 for no label: these are passed over.
        normal: the targets of normal images.
        classes: the name of every target.

    Raises ValueError where all labelled images are normal, or none.
    """
    scores, targets = np.asarray(scores), np.asarray(targets)
    is_normal = np.isin(targets, list(normal))
    _both_kinds(~is_normal[targets >= 0])
    found = np.unique(targets[(targets >= 0) & ~is_normal])
    kept = {int(target): is_normal | (targets == target) for target in found}
    return {classes[k]: image_metrics(scores[rows], ~is_normal[rows])["auroc"] for k, rows in kept.items()}


def bootstrap_interval(
    metric: str | Metric,
    scores: np.ndarray,
    anomalous: np.ndarray,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a metric over resamples of the images, normal ones and anomalies each among themselves.

    Args:
        metric: a name of `image_metrics`, or a function of (anomalous, scores). Names, and scikit-learn's
            `roc_auc_score` and `average_precision_score`, are computed for many resamples at once.
        scores, anomalous: as for `image_metrics`.
        seed: of the resamples.
        resamples: how many.
        level: the share of resamples within the interval.
    """
    scores, anomalous = _checked(scores, anomalous)
    assert 0 < level < 1 and resamples > 0
    rng = np.random.default_rng(seed)
    fast = _METRICS[metric] if isinstance(metric, str) else _SKLEARN.get(metric)
    if fast is None:
        assert not isinstance(metric, str)
        values = np.array([metric(anomalous[rows], scores[rows]) for rows in _resamples(anomalous, resamples, rng)])
    else:
        values = _fast_resamples(fast, scores, anomalous, resamples, rng)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def pixel_auroc(maps: Pictures, masks: Pictures) -> float:
    """AUROC of all pixels: maps `(N, H, W)` of scores and masks, non-zero where anomalous; or lists of `(H, W)`.

    Exact, in the maps' own precision. Raises ValueError for NaN, and where no pixel is marked or all are.
    """
    return pixel_metrics(maps, masks)["pixel_auroc"]


def aupro(maps: Pictures, masks: Pictures, limit: float = 0.3) -> float:
    """Area under the per-region overlap up to a false-positive rate of `limit`, divided by it: 1 is perfect.

    At every threshold the overlap is the share of a region's pixels above it, averaged over all regions (8-connected
    parts of the masks); the false-positive rate is that of all unmarked pixels. So small defects count as much as large
    ones. Bergmann et al. 2020, https://arxiv.org/abs/1911.02357. Arguments and errors as for `pixel_auroc`.
    """
    return pixel_metrics(maps, masks, limit)["aupro"]


def pixel_metrics(
    maps: Iterable[np.ndarray], masks: Pictures, limit: float = 0.3, seen: Iterable[np.ndarray] | None = None
) -> dict[str, float]:
    """`pixel_auroc` and `aupro` (see there) in one pass, which holds every unmarked pixel's score once.

    Args:
        maps: one `(H, W)` a mask; may be a generator.
        masks: `(N, H, W)` or a list, non-zero where anomalous.
        limit: the false-positive rate of `aupro`.
        seen: booleans `(H, W)`, one an image: pixels where they are false do not count, such as padding.
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit is a false-positive rate in (0, 1], not {limit}")
    normal, abnormal, weights = _pixels(maps, masks, itertools.repeat(True, len(masks)) if seen is None else seen)
    order = np.argsort(abnormal)
    below, not_above = _below(normal, abnormal[order])
    pairs = int(below.sum()) + int(not_above.sum())  # each counts half
    area = _area(below / len(normal), not_above / len(normal), weights[order], limit)
    return {"pixel_auroc": pairs / (2 * len(normal) * len(abnormal)), "aupro": min(1.0, area / limit)}


# pixels


def _pixels(
    maps: Iterable[np.ndarray], masks: Pictures, seen: Iterable[np.ndarray | bool]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of unmarked pixels, sorted; those of marked ones; the latter's weights, 1 in all and a region alike."""
    normal = np.empty(0, np.float32)
    abnormal, sizes = [], []
    filled = regions = 0
    for scores, mask, inside in zip(map(np.asarray, maps), map(np.asarray, masks), seen, strict=True):
        if scores.shape != mask.shape:
            raise ValueError(f"a map and its mask must have the same size, not {scores.shape} and {mask.shape}")
        marked = (mask != 0) & inside
        rest = scores[~marked & inside]
        if not len(normal):
            normal = np.empty(sum(np.size(one) for one in masks), scores.dtype)
        normal = normal.astype(np.promote_types(normal.dtype, scores.dtype), copy=False)
        normal[filled : filled + len(rest)] = rest
        filled += len(rest)
        if marked.any():
            abnormal.append(scores[marked])
            labels, count = ndimage.label(marked, np.ones((3, 3)))
            part = labels[marked]
            sizes.append(np.bincount(part)[part])
            regions += count
    if not regions or not filled:
        found = "all are" if regions else "none is"
        raise ValueError(f"pixels of both kinds are needed, and {found} marked in the masks")
    normal = normal[:filled]
    normal.sort()  # in place; NaN last
    marked_scores = np.concatenate(abnormal)
    if np.isnan(normal[-1]) or np.isnan(marked_scores).any():
        raise ValueError("the maps hold NaN, which has no place among the scores")
    return normal, marked_scores, 1 / (regions * np.concatenate(sizes))


def _area(below: np.ndarray, not_above: np.ndarray, weights: np.ndarray, limit: float) -> float:
    """Area under the weighted share of marked pixels above a threshold over that of normal ones above it, to `limit`.

    A pixel's weight joins the curve where as many normal pixels lie above it: of these the share `below` lies below
    it, and `not_above` not above. Among equal scores the curve is straight, and so it is where the limit cuts it.
    """
    end, start = 1 - below, 1 - not_above
    width = np.where(end > start, end - start, 1.0)
    reached = np.clip(limit - start, 0, end - start)  # of the rise
    return float(weights @ (reached**2 / (2 * width) + np.maximum(limit - end, 0)))


def _below(normal: np.ndarray, abnormal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of `normal` lie below each of `abnormal`, and how many not above; both sorted."""
    below = np.searchsorted(normal, abnormal)
    not_above = below.copy()
    tied = normal[np.minimum(below, len(normal) - 1)] == abnormal
    not_above[tied] = np.searchsorted(normal, abnormal[tied], "right")
    return below, not_above


# images


def _levels(scores: np.ndarray) -> tuple[np.ndarray, int]:
    """The place `(N,)` of every score among the distinct ones, 0 the highest, and how many these are."""
    distinct, inverse = np.unique(scores, return_inverse=True)
    return len(distinct) - 1 - inverse, len(distinct)


def _auroc(normal: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """AUROC `(R,)` of counts `(R, L)` by level of score, the highest first: pairs in the right order, ties half."""
    below = normal.sum(1, keepdims=True) - normal.cumsum(1)
    return (abnormal * (below + normal / 2)).sum(1) / (normal.sum(1) * abnormal.sum(1))


def _aupr(normal: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """Average precision `(R,)`: the precision at every level, weighted by the anomalies there."""
    hits = abnormal.cumsum(1)
    return (abnormal * hits / np.maximum(hits + normal.cumsum(1), 1)).sum(1) / abnormal.sum(1)


def _fpr_at_95_tpr(normal: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """Share `(R,)` of normal images at the first level by which 95 % of the anomalies are found."""
    enough = 20 * abnormal.cumsum(1) >= 19 * abnormal.sum(1, keepdims=True)
    alarms = np.take_along_axis(normal.cumsum(1), enough.argmax(1)[:, None], 1)[:, 0]
    return alarms / normal.sum(1)


_METRICS = {"auroc": _auroc, "aupr": _aupr, "fpr_at_95_tpr": _fpr_at_95_tpr}
_SKLEARN = {roc_auc_score: _auroc, average_precision_score: _aupr}


def _fast_resamples(
    metric: Callable[[np.ndarray, np.ndarray], np.ndarray],
    scores: np.ndarray,
    anomalous: np.ndarray,
    resamples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """A metric of counts on `(resamples,)` resamples, many at a time."""
    level, levels = _levels(scores)
    step = max(1, _CHUNK // len(scores))
    values = []
    for low in range(0, resamples, step):
        count = min(step, resamples - low)
        kinds = [_resampled_counts(level[kind], levels, count, rng) for kind in (~anomalous, anomalous)]
        values.append(metric(*kinds))
    return np.concatenate(values)


def _resampled_counts(level: np.ndarray, levels: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """How often each level comes `(count, levels)` in as many resamples."""
    drawn = level[rng.integers(0, len(level), (count, len(level)))] + levels * np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=count * levels).reshape(count, levels)


def _resamples(anomalous: np.ndarray, resamples: int, rng: np.random.Generator) -> list[np.ndarray]:
    kinds = [np.flatnonzero(~anomalous), np.flatnonzero(anomalous)]
    return [np.concatenate([rng.choice(rows, len(rows)) for rows in kinds]) for _ in range(resamples)]


def _checked(scores: np.ndarray, anomalous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, anomalous = np.asarray(scores), np.asarray(anomalous)
    assert scores.ndim == 1 and scores.shape == anomalous.shape and anomalous.dtype == bool
    _both_kinds(anomalous)
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {len(scores)} anomaly scores are NaN")
    return scores, anomalous


def _both_kinds(anomalous: np.ndarray) -> None:
    """Refuse images of one kind."""
    if not anomalous.any() or anomalous.all():
        kind = "anomalies" if len(anomalous) and anomalous.all() else "normal"
        raise ValueError(f"normal images and anomalies are both needed, and all of the {len(anomalous)} are {kind}")
