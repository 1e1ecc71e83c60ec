"""Classification metrics with their intervals."""

from __future__ import annotations

import math

import torchmetrics
from torchmetrics import classification as tm


def classification_metrics(classes: int, prefix: str) -> torchmetrics.MetricCollection:
    """Accuracy, balanced accuracy, macro F1, top-k accuracy and calibration error of `(N, K)` probabilities.

    k is 5, or 2 with five classes or fewer. Calibration error: expected, 15 bins (Guo et al. 2017,
    https://arxiv.org/abs/1706.04599).
    """
    k = 5 if classes > 5 else min(2, classes)
    return torchmetrics.MetricCollection(
        {
            "accuracy": tm.MulticlassAccuracy(classes, average="micro"),
            "balanced_accuracy": tm.MulticlassAccuracy(classes, average="macro"),
            "f1_macro": tm.MulticlassF1Score(classes, average="macro"),
            f"top{k}_accuracy": tm.MulticlassAccuracy(classes, average="micro", top_k=k),
            "calibration_error": tm.MulticlassCalibrationError(classes, n_bins=15),
        },
        prefix=prefix,
    )


def wilson_interval(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen on `count` independent images.

    >>> [round(bound, 3) for bound in wilson_interval(0.9, 100)]
    [0.826, 0.945]
    """
    if count == 0:
        return 0.0, 1.0
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (centre - half) / scale, (centre + half) / scale
