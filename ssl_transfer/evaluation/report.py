"""The figures of an anomaly detector on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch.distributed
from sklearn.metrics import precision_recall_curve, roc_auc_score

from ssl_transfer.evaluation.detection import (
    aupro,
    bootstrap_interval,
    class_aurocs,
    false_alarm_rate,
    image_metrics,
    pixel_auroc,
)


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
) -> dict[str, float]:
    """Figures of images that are labelled (target ≥ 0).

    Args:
        scored: scores of normal images and anomalies.
        decisions: `(N,)`, true where an image is called an anomaly.
        normal: the targets of normal images; `classes`: names of all targets.
        enlarge: brings maps `(N, h, w)` to the size of the masks.
        seed: of the intervals' resamples.

    Returns `auroc` with `auroc_low` and `auroc_high` (95 %, bootstrap), `aupr`, `fpr_at_95_tpr`, the realised
    `false_alarm_rate`, `detected` (the share of anomalies called so), `auroc/CLASS` of each class of anomalies, and
    with maps and masks `pixel_auroc` and `aupro`.
    """
    keep = scored.targets >= 0
    scores, targets, decisions = scored.scores[keep], scored.targets[keep], decisions[keep]
    anomalous = ~np.isin(targets, list(normal))
    low, high = bootstrap_interval(roc_auc_score, scores, anomalous, seed=seed)
    figures = dict(image_metrics(scores, anomalous))
    figures |= {"auroc_low": low, "auroc_high": high}
    figures["false_alarm_rate"] = false_alarm_rate(decisions, anomalous)
    figures["detected"] = float(decisions[anomalous].mean())
    per_class = class_aurocs(scores, targets, list(normal), list(classes))
    figures |= {f"auroc/{name}": value for name, value in per_class.items()} if len(per_class) > 1 else {}
    if scored.maps is not None and scored.masks is not None:
        figures |= pixel_figures(enlarge(scored.maps[keep]), scored.masks[keep] & anomalous[:, None, None])
    return figures


def pixel_figures(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """`pixel_auroc` and `aupro` of maps `(N, H, W)`; empty where no pixel is marked, or every one."""
    if not masks.any() or masks.all():
        return {}
    return {"pixel_auroc": pixel_auroc(maps, masks), "aupro": aupro(maps, masks)}


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
