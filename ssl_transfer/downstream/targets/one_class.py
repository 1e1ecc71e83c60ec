"""One class an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch.nn.functional as F
import torchmetrics
from torch import Tensor

from ssl_transfer.downstream.targets.base import ClassWeights, Pair, TargetKind, by_name, listed_weights
from ssl_transfer.downstream.targets.column import Column
from ssl_transfer.evaluation.metrics import classification_metrics
from ssl_transfer.evaluation.probes import LinearHead, select_logistic, solve_logistic


@dataclass
class ClassTarget(TargetKind):
    """One class an image: softmax and cross-entropy. Values: int64 `(B,)`, -1 none.

    Args:
        name: the column's.
        classes: their names, in the order of the outputs.
        smoothing: the share of the target that training spreads over all classes.
        weights: of the classes in training.

    >>> import torch
    >>> ClassTarget("label", ["ant", "bee"]).told(torch.tensor([[0.2, 0.8]]))
    ['bee']
    """

    kind = "class"
    figure = "accuracy"
    name: str
    classes: list[str]
    smoothing: float = 0.0
    weights: list[float] | None = None

    @classmethod
    def of(cls, column: Column, train: np.ndarray, smoothing: float = 0.0, weights: ClassWeights | None = None) -> Self:
        classes = column.classes or []
        values = column.values[train]
        counts = np.bincount(values[values >= 0], minlength=len(classes))
        if len(classes) < 2:
            held = f"one class only, {classes[0]!r}" if classes else "no labels"
            raise ValueError(f"target {column.name!r} has {held}: a class needs at least two to be told apart")
        if not counts.any():
            raise ValueError(f"target {column.name!r}: no training image has a label")
        if weights == "balanced":
            return cls(
                column.name, classes, smoothing, (counts.sum() / (len(classes) * np.maximum(counts, 1))).tolist()
            )
        return cls(column.name, classes, smoothing, None if weights is None else listed_weights(weights, classes))

    @property
    def width(self) -> int:
        return len(self.classes)

    def read(self, column: Column) -> np.ndarray:
        if column.classes == self.classes or column.classes is None:
            return column.values
        places = by_name(column, self.classes, column.values[column.present])
        order = np.array([places.get(k, -1) for k in range(len(column.classes))] + [-1])  # -1, none, is the last
        found: np.ndarray = order[column.values]
        return found

    def present(self, values: Tensor) -> Tensor:
        return values >= 0

    def loss_of(self, outputs: Tensor, values: Tensor) -> Tensor:
        weights = None if self.weights is None else outputs.new_tensor(self.weights)
        return F.cross_entropy(outputs, values, weights, label_smoothing=self.smoothing)

    def answer(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(1)

    def told(self, answers: Tensor) -> list[Any]:
        return [self.classes[k] for k in answers.argmax(1).tolist()]

    def metrics(self, prefix: str) -> torchmetrics.MetricCollection:
        return classification_metrics(self.width, prefix)

    def truth(self, values: Tensor) -> Tensor:
        return values

    def solve(self, train: Pair, held_out: Pair | None, l2: float | None) -> tuple[LinearHead, float | None]:
        weights = None if self.weights is None else train[0].new_tensor(self.weights)
        if l2 is not None:
            return solve_logistic(*train, self.width, l2, weights=weights), None
        return select_logistic(train, held_out, self.width, weights=weights)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"classes": list(self.classes)}

    @classmethod
    def from_description(cls, told: dict[str, Any]) -> Self:
        return cls(told["name"], list(told["classes"]))
