"""A number an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch.nn.functional as F
import torchmetrics
from torch import Tensor

from ssl_transfer.downstream.targets.base import ClassWeights, Pair, TargetKind
from ssl_transfer.downstream.targets.column import Column
from ssl_transfer.evaluation.metrics import number_metrics
from ssl_transfer.evaluation.probes import LinearHead
from ssl_transfer.evaluation.solvers import select_regression, solve_regression


@dataclass
class RegressionTarget(TargetKind):
    """A number an image, by squared error of the standardised number. Values: float32 `(B,)` in their unit, NaN none.

    Args:
        name: the column's.
        mean, deviation: of the training images' numbers; the head learns how many deviations a number is off the mean.

    >>> import torch
    >>> RegressionTarget("age", mean=40.0, deviation=10.0).told(torch.tensor([[42.5]]))
    [42.5]
    """

    kind = "regression"
    figure = "r2"
    name: str
    mean: float
    deviation: float

    @classmethod
    def of(cls, column: Column, train: np.ndarray, smoothing: float = 0.0, weights: ClassWeights | None = None) -> Self:
        values = column.values[train].astype(np.float64)
        values = values[~np.isnan(values)]
        if not len(values):
            raise ValueError(f"target {column.name!r}: no training image has a number")
        if not np.isfinite(values).all():
            raise ValueError(f"target {column.name!r} holds an infinite number: leave that cell empty")
        if values.std() == 0:
            raise ValueError(f"target {column.name!r} is {values[0]:g} for every training image: nothing to learn")
        return cls(column.name, float(values.mean()), float(values.std()))

    @property
    def classes(self) -> list[str]:  # type: ignore[override]
        return []

    @property
    def width(self) -> int:
        return 1

    def read(self, column: Column) -> np.ndarray:
        return column.values.astype(np.float32)

    def present(self, values: Tensor) -> Tensor:
        return ~values.isnan()

    def loss_of(self, outputs: Tensor, values: Tensor) -> Tensor:
        return F.mse_loss(outputs[:, 0], self._standardised(values))

    def _standardised(self, values: Tensor) -> Tensor:
        return (values.float() - self.mean) / self.deviation

    def answer(self, outputs: Tensor) -> Tensor:
        return outputs * self.deviation + self.mean

    def told(self, answers: Tensor) -> list[Any]:
        numbers: list[Any] = answers[:, 0].tolist()
        return numbers

    def metrics(self, prefix: str) -> torchmetrics.MetricCollection:
        return number_metrics(prefix)

    def truth(self, values: Tensor) -> Tensor:
        return values[:, None]

    def solve(self, train: Pair, held_out: Pair | None, l2: float | None) -> tuple[LinearHead, float | None]:
        features, numbers = train[0], self._standardised(train[1])
        if l2 is not None:
            return solve_regression(features, numbers, l2), None
        chosen_on = None if held_out is None else (held_out[0], self._standardised(held_out[1]))
        return select_regression((features, numbers), chosen_on)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"mean": self.mean, "deviation": self.deviation}

    @classmethod
    def from_description(cls, told: dict[str, Any]) -> Self:
        return cls(told["name"], float(told["mean"]), float(told["deviation"]))
