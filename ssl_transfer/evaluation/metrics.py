"""Metrics of classes, labels and numbers, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torchmetrics
from torch import Tensor
from torchmetrics import classification as tm
from torchmetrics import functional as tmf
from torchmetrics.utilities import dim_zero_cat


def classification_metrics(classes: int, prefix: str) -> torchmetrics.MetricCollection:
    """Accuracy, balanced accuracy, macro F1, top-k accuracy and calibration error of `(N, K)` probabilities.

    k is 5, or 2 with five classes or fewer. Calibration error: expected, 15 bins (Guo et al. 2017,
    https://arxiv.org/abs/1706.04599).
    """
    k = 5 if classes > 5 else min(2, classes)
    return torchmetrics.MetricCollection(
        {
            "accuracy": tm.MulticlassAccuracy(classes, average="micro"),
            "balanced_accuracy": BalancedAccuracy(classes, average="macro"),
            "f1_macro": tm.MulticlassF1Score(classes, average="macro"),
            f"top{k}_accuracy": tm.MulticlassAccuracy(classes, average="micro", top_k=k),
            "calibration_error": tm.MulticlassCalibrationError(classes, n_bins=15),
        },
        prefix=prefix,
        # Said, as torchmetrics would take those for one whose counts agree after the first batch, if that is all right.
        compute_groups=[["accuracy"], ["balanced_accuracy", "f1_macro"], [f"top{k}_accuracy"], ["calibration_error"]],
    )


class BalancedAccuracy(tm.MulticlassAccuracy):
    """The mean recall of the classes that occur; torchmetrics' own counts those that are only predicted as well."""

    def compute(self) -> Tensor:
        right, _, _, missed = self._final_state()
        there = right + missed  # (K,)
        return (right / there)[there > 0].mean()


def label_metrics(labels: int, prefix: str) -> torchmetrics.MetricCollection:
    """Metrics of `(N, L)` probabilities of labels, of which an image has any number; truth is 0 or 1.

    Mean average precision (over the labels that occur), macro F1, macro AUROC (over the labels that some images have
    and others not), exact match (the share of images with every label right) and the share of all labels right. A
    label is predicted from one half on.
    """
    return torchmetrics.MetricCollection(
        {
            "mean_average_precision": MeanAveragePrecision(labels),
            "f1_macro": MacroF1(labels),
            "auroc_macro": MacroAUROC(labels),
            "exact_match": ExactMatch(labels),
            "label_accuracy": LabelAccuracy(labels),
        },
        prefix=prefix,
        compute_groups=[["mean_average_precision", "f1_macro", "auroc_macro", "exact_match", "label_accuracy"]],
    )


def number_metrics(prefix: str) -> torchmetrics.MetricCollection:
    """Mean absolute error, root mean squared error, R² and Spearman's rank correlation of numbers `(N, 1)`.

    The errors have the unit of the numbers.
    """
    return torchmetrics.MetricCollection(
        {
            "mean_absolute_error": torchmetrics.MeanAbsoluteError(),
            "root_mean_squared_error": torchmetrics.MeanSquaredError(squared=False),
            "r2": R2(1),
            "spearman": Spearman(1),
        },
        prefix=prefix,
        compute_groups=[["mean_absolute_error"], ["root_mean_squared_error"], ["r2", "spearman"]],
    )


class OfAllRows(torchmetrics.Metric):
    """Base of the figures of all images together: keeps answers and truth `(N, width)` until the end.

    Those of one `MetricCollection` keep them once.
    """

    full_state_update = False
    answers: Any
    truth: Any

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.add_state("answers", default=[], dist_reduce_fx="cat")
        self.add_state("truth", default=[], dist_reduce_fx="cat")

    def update(self, answers: Tensor, truth: Tensor) -> None:
        # Flat: what a process that has seen nothing adds has one dimension.
        self.answers.append(answers.detach().float().flatten())
        self.truth.append(truth.detach().float().flatten())

    def compute(self) -> Tensor:
        answers, truth = (dim_zero_cat(rows).reshape(-1, self.width) for rows in (self.answers, self.truth))
        return self.figure(answers, truth)

    def figure(self, answers: Tensor, truth: Tensor) -> Tensor:
        """The figure of all rows, NaN where they say nothing."""
        raise NotImplementedError


class MeanAveragePrecision(OfAllRows):
    """The mean over the labels that occur of the area under precision by recall."""

    higher_is_better = True

    def figure(self, answers: Tensor, truth: Tensor) -> Tensor:
        return _mean_over(truth.any(0), answers, truth, tmf.classification.binary_average_precision)


class MacroAUROC(OfAllRows):
    """The mean over the labels that some images have and others not of the area under the ROC curve."""

    higher_is_better = True

    def figure(self, answers: Tensor, truth: Tensor) -> Tensor:
        return _mean_over(truth.any(0) & ~truth.all(0), answers, truth, tmf.classification.binary_auroc)


def _mean_over(labels: Tensor, answers: Tensor, truth: Tensor, figure: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The mean of a figure over those labels; NaN without any."""
    found = [figure(answers[:, k], truth[:, k].long()) for k in labels.nonzero()[:, 0].tolist()]
    return torch.stack(found).mean() if found else torch.tensor(torch.nan, device=answers.device)


class MacroF1(OfAllRows):
    """The mean over the labels of the harmonic mean of precision and recall, 0 for one neither there nor predicted."""

    higher_is_better = True

    def figure(self, answers: Tensor, truth: Tensor) -> Tensor:
        predicted, there = answers >= 0.5, truth == 1
        right, wrong = (predicted & there).sum(0), (predicted != there).sum(0)
        return (2 * right / (2 * right + wrong).clamp(min=1)).mean()


class ExactMatch(OfAllRows):
    """The share of images with every label right."""

    higher_is_better = True

    def figure(self, answers: Tensor, truth: Tensor) -> Tensor:
        return ((answers >= 0.5) == (truth == 1)).all(1).float().mean()


class LabelAccuracy(OfAllRows):
    """The share of all labels of all images that are right."""

    higher_is_better = True

    def figure(self, answers: Tensor, truth: Tensor) -> Tensor:
        return ((answers >= 0.5) == (truth == 1)).float().mean()


class R2(OfAllRows):
    """The share of the truth's variance that is explained, 0 for its mean as the answer; NaN where it does not vary."""

    higher_is_better = True

    def figure(self, answers: Tensor, truth: Tensor) -> Tensor:
        answers, truth = answers.double(), truth.double()
        spread = (truth - truth.mean()).square().sum()
        explained = 1 - (truth - answers).square().sum() / spread
        return torch.where(spread > 0, explained, torch.nan).float()


class Spearman(OfAllRows):
    """Spearman's rank correlation, ties sharing their mean rank; NaN where either does not vary."""

    higher_is_better = True

    def figure(self, answers: Tensor, truth: Tensor) -> Tensor:
        if len(truth) < 2 or not (answers != answers[0]).any() or not (truth != truth[0]).any():
            return torch.tensor(torch.nan, device=answers.device)
        return tmf.spearman_corrcoef(answers[:, 0], truth[:, 0])


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
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
