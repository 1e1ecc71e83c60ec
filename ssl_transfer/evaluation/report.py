"""The figures of an anomaly detector on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch.distributed
from sklearn.metrics import precision_recall_curve

from ssl_transfer.data.placement import place
from ssl_transfer.evaluation.detection import (
    Pictures,
    bootstrap_interval,
    class_aurocs,
    false_alarm_rate,
    image_metrics,
    pixel_metrics,
)
from ssl_transfer.evaluation.metrics import wilson_interval

_BATCH = 32  # maps enlarged at a time
Seen = Callable[[np.ndarray], np.ndarray]  # rows (N,) to booleans (N, H, W), false where a stored image is padding


class Scored(NamedTuple):
    """What a detector said of N images: rows of the store, targets, anomaly scores, and maps beside true masks.

    maps: `(N, h, w)` or None; masks: `(N, H, W)` bool, true where an anomaly is marked, or None.
    """

    rows: np.ndarray
    targets: np.ndarray
    scores: np.ndarray
    maps: np.ndarray | None
    masks: np.ndarray | None

    @classmethod
    def gather(cls, parts: Sequence[Self]) -> Self:
        """The parts of all processes, ordered by row."""
        own = [tuple(part) for part in parts]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            everyone: list[list[Any]] = [[] for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(everyone, own)
            own = [part for some in everyone for part in some]
        columns: list[Any] = [
            None if column[0] is None else np.concatenate(column) for column in zip(*own, strict=True)
        ]
        order = np.argsort(columns[0], kind="stable")
        ordered: list[Any] = [None if column is None else column[order] for column in columns]
        return cls(*ordered)


def anomaly_report(
    scored: Scored,
    decisions: np.ndarray,
    normal: Sequence[int],
    classes: Sequence[str],
    enlarge: Callable[[np.ndarray], np.ndarray] = lambda maps: maps,
    seed: int = 0,
    seen: Seen | None = None,
) -> dict[str, float]:
    """Figures of images that are labelled (target ≥ 0).

    Args:
        scored: scores of normal images and anomalies.
        decisions: `(N,)`, true where an image is called an anomaly.
        normal: the targets of normal images; `classes`: names of all targets.
        enlarge: brings maps `(n, h, w)` to the size of the masks.
        seed: of the intervals' resamples.
        seen: which pixels of the images of some rows count, see `unpadded`; None is all.

    Returns `auroc`, `aupr`, `fpr_at_95_tpr`, the realised `false_alarm_rate` and `detected` (the share of anomalies
    called so), each with the bounds of its 95 % interval, `auroc_low` and `auroc_high` (bootstrap; Wilson's for the two
    shares); `auroc/CLASS` of each class of anomalies; with maps and masks `pixel_auroc` and `aupro`, and
    `unmasked_anomalies`, how many these leave out because nothing is marked in them, where there are any.
    """
    kept = np.flatnonzero(scored.targets >= 0)
    scores, targets, decisions = scored.scores[kept], scored.targets[kept], decisions[kept]
    anomalous = ~np.isin(targets, list(normal))
    figures = image_metrics(scores, anomalous)
    for name in list(figures):
        figures |= _bounds(name, bootstrap_interval(name, scores, anomalous, seed=seed))
    alarms, detected = false_alarm_rate(decisions, anomalous), float(decisions[anomalous].mean())
    figures |= {"false_alarm_rate": alarms, "detected": detected}
    figures |= _bounds("false_alarm_rate", wilson_interval(alarms, int((~anomalous).sum())))
    figures |= _bounds("detected", wilson_interval(detected, int(anomalous.sum())))
    per_class = class_aurocs(scores, targets, list(normal), list(classes))
    figures |= {f"auroc/{name}": value for name, value in per_class.items()} if len(per_class) > 1 else {}
    return figures | _pixels(scored, kept, anomalous, enlarge, seen)


def _bounds(name: str, interval: tuple[float, float]) -> dict[str, float]:
    return {f"{name}_low": interval[0], f"{name}_high": interval[1]}


def _pixels(
    scored: Scored,
    kept: np.ndarray,
    anomalous: np.ndarray,
    enlarge: Callable[[np.ndarray], np.ndarray],
    seen: Seen | None,
) -> dict[str, float]:
    """The figures of pixels of the images at the places `kept`, of which some are `anomalous`, both `(K,)`."""
    if scored.maps is None or scored.masks is None:
        return {}
    marked = np.array([scored.masks[n].any() for n in kept])
    lost = anomalous & ~marked  # what is abnormal in these may lie anywhere
    places, bad = kept[~lost], anomalous[~lost]
    bare = np.zeros(scored.masks.shape[1:], bool)
    masks = [scored.masks[n] if is_bad else bare for n, is_bad in zip(places, bad, strict=True)]
    rows = scored.rows[places]
    inside = None if seen is None else lambda part: seen(rows[part])
    figures = pixel_figures(scored.maps[places], masks, enlarge, inside)
    return figures | ({"unmasked_anomalies": float(lost.sum())} if lost.any() else {})


def pixel_figures(
    maps: np.ndarray,
    masks: Pictures,
    enlarge: Callable[[np.ndarray], np.ndarray] = lambda maps: maps,
    seen: Callable[[slice], np.ndarray] | None = None,
) -> dict[str, float]:
    """`pixel_auroc` and `aupro`; empty where no pixel is marked, or every one.

    Args:
        maps: `(N, h, w)`; enlarged a batch at a time, so that all at full size are never held.
        masks: `(N, H, W)` or a list, true where an anomaly is marked.
        enlarge: brings maps `(n, h, w)` to the masks' size.
        seen: the pixels that count of a slice of the images, booleans `(n, H, W)`; None is all.
    """
    if not any(mask.any() for mask in masks) or all(mask.all() for mask in masks):
        return {}
    parts = [slice(low, low + _BATCH) for low in range(0, len(maps), _BATCH)]
    inside = None if seen is None else (one for part in parts for one in seen(part))
    return pixel_metrics((one for part in parts for one in enlarge(maps[part])), masks, seen=inside)


def unpadded(data: Any) -> Seen | None:
    """Which pixels of a DataModule's stored images show something, by row; None where no image is padded."""
    if data.resize != "pad":
        return None
    shape = tuple(data.shape[1:])

    def seen(rows: np.ndarray) -> np.ndarray:
        inside = np.zeros((len(rows), *shape), bool)
        for one, row in zip(inside, rows.tolist(), strict=True):
            left, top, right, bottom = place(data.original(row).shape[:2], shape, "pad").inner
            one[top:bottom, left:right] = True
        return inside

    return seen


def best_f1_threshold(scores: np.ndarray, anomalous: np.ndarray) -> float:
    """The threshold above which calling images anomalies gives the best F1: halfway to the next lower score.

    >>> best_f1_threshold(np.array([0.0, 1.0, 3.0, 4.0]), np.array([False, False, True, True]))
    2.0
    """
    precision, recall, thresholds = precision_recall_curve(anomalous, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    chosen = thresholds[int(f1[:-1].argmax())]
    below = scores[scores < chosen]
    return float((chosen + below.max()) / 2) if len(below) else float(np.nextafter(chosen, -np.inf))
