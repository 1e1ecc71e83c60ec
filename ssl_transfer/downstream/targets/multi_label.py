"""Several labels an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch.nn.functional as F
import torchmetrics
from torch import Tensor

from ssl_transfer.downstream.targets.base import ClassWeights, Pair, TargetKind, by_name, listed_weights
from ssl_transfer.downstream.targets.column import Column
from ssl_transfer.evaluation.metrics import label_metrics
from ssl_transfer.evaluation.probes import LinearHead
from ssl_transfer.evaluation.solvers import select_binary_logistic, solve_binary_logistic


@dataclass
class MultiLabelTarget(TargetKind):
    """Any number of labels an image: a sigmoid and binary cross-entropy each. Values: `(B, L)` of 0 and 1, NaN none.

    Args:
        name: the column's.
        classes: the labels' names, in the order of the outputs.
        smoothing: training takes a label for 1 − smoothing/2, and its absence for smoothing/2.
        weights: what an image that has a label counts in training against one that has not, for each label.

    >>> import torch
    >>> MultiLabelTarget("label", ["round", "red"]).told(torch.tensor([[0.9, 0.6], [0.1, 0.2]]))
    [['round', 'red'], []]
    """

    kind = "multi_label"
    figure = "mean_average_precision"
    name: str
    classes: list[str]
    smoothing: float = 0.0
    weights: list[float] | None = None

    @classmethod
    def of(cls, column: Column, train: np.ndarray, smoothing: float = 0.0, weights: ClassWeights | None = None) -> Self:
        classes, values = column.classes or [], column.values[train]
        values = values[~np.isnan(values).any(1)]
        if not len(values) or not classes:
            raise ValueError(f"target {column.name!r}: no training image has a label")
        have, lack = (values == 1).sum(0), (values == 0).sum(0)
        if not (have * lack).any():
            raise ValueError(f"target {column.name!r}: the training images all have the same labels")
        if weights == "balanced":
            return cls(column.name, classes, smoothing, (np.maximum(lack, 1) / np.maximum(have, 1)).tolist())
        return cls(column.name, classes, smoothing, None if weights is None else listed_weights(weights, classes))

    @property
    def width(self) -> int:
        return len(self.classes)

    def read(self, column: Column) -> np.ndarray:
        if column.classes == self.classes:
            return column.values
        found = np.zeros((len(column.values), self.width), np.float32)
        found[~column.present] = np.nan
        occurring = np.flatnonzero((column.values == 1).any(0)) if column.values.ndim == 2 else np.zeros(0, int)
        places = by_name(column, self.classes, occurring)
        for k in occurring.tolist():
            found[:, places[k]] = column.values[:, k]
        return found

    def present(self, values: Tensor) -> Tensor:
        return ~values.isnan().any(1)

    def loss_of(self, outputs: Tensor, values: Tensor) -> Tensor:
        weights = None if self.weights is None else outputs.new_tensor(self.weights)
        smoothed = values * (1 - self.smoothing) + self.smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs, smoothed, pos_weight=weights)

    def answer(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid()

    def told(self, answers: Tensor) -> list[Any]:
        return [[name for name, p in zip(self.classes, row, strict=True) if p >= 0.5] for row in answers.tolist()]

    def metrics(self, prefix: str) -> torchmetrics.MetricCollection:
        return label_metrics(self.width, prefix)

    def truth(self, values: Tensor) -> Tensor:
        return values.long()

    def solve(self, train: Pair, held_out: Pair | None, l2: float | None) -> tuple[LinearHead, float | None]:
        weights = None if self.weights is None else train[0].new_tensor(self.weights)
        if l2 is not None:
            return solve_binary_logistic(*train, l2, weights), None
        return select_binary_logistic(train, held_out, weights=weights)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"classes": list(self.classes)}

    @classmethod
    def from_description(cls, told: dict[str, Any]) -> Self:
        return cls(told["name"], list(told["classes"]))
