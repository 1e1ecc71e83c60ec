"""What every kind of target offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torchmetrics
from torch import Tensor

from ssl_transfer.downstream.targets.column import Column, Kind
from ssl_transfer.evaluation.probes import LinearHead

ClassWeights = Literal["balanced"] | Mapping[str, float]
Pair = tuple[Tensor, Tensor]  # features (N, D) and values (N, …)


class TargetKind:
    """One thing that is learnt of an image: a class, several labels, or a number.

    `width` outputs of the head are its own. Its values are as a column of labels holds them.

    Attributes:
        name: the column's.
        kind: what it is called in configurations.
        figure: the metric by which an epoch is the best; higher is better.
        classes: names of the classes or labels, in the order of the outputs; none of a number.
    """

    kind: ClassVar[Kind]
    figure: ClassVar[str]
    name: str
    classes: list[str]  # empty of a number

    @classmethod
    def of(cls, column: Column, train: np.ndarray, smoothing: float = 0.0, weights: ClassWeights | None = None) -> Self:
        """What a column asks for.

        Args:
            column: of this kind.
            train: the rows of the training images `(M,)`, by which is measured what there is to measure.
            smoothing: the share of a class or label that training takes for the others.
            weights: of the classes or labels in training, by name; "balanced": the rarer the more.

        Raises ValueError where there is nothing to learn.
        """
        raise NotImplementedError

    @property
    def width(self) -> int:
        """How many outputs of the head are its own."""
        raise NotImplementedError

    def read(self, column: Column) -> np.ndarray:
        """The values of a column, of this source or another, in the order of this target's classes.

        Raises ValueError for a class that was not there in the fit.
        """
        raise NotImplementedError

    def present(self, values: Tensor) -> Tensor:
        """Which images have a value, boolean `(B,)`."""
        raise NotImplementedError

    def loss(self, outputs: Tensor, values: Tensor) -> Tensor:
        """The mean loss of outputs `(B, width)` over the images that have a value; 0 where none has."""
        keep = self.present(values)
        if not keep.any():
            return 0 * outputs.float().sum()
        return self.loss_of(outputs[keep].float(), values[keep])

    def loss_of(self, outputs: Tensor, values: Tensor) -> Tensor:
        """The mean loss of images that all have a value."""
        raise NotImplementedError

    def answer(self, outputs: Tensor) -> Tensor:
        """Probabilities, or numbers in their own unit, `(B, width)`."""
        raise NotImplementedError

    def told(self, answers: Tensor) -> list[Any]:
        """What a person is told: a class, the labels from one half on, or a number, one an image."""
        raise NotImplementedError

    def metrics(self, prefix: str) -> torchmetrics.MetricCollection:
        """Metrics that are updated with answers `(B, width)` and `truth`."""
        raise NotImplementedError

    def truth(self, values: Tensor) -> Tensor:
        """Values as the metrics take them."""
        raise NotImplementedError

    def solve(self, train: Pair, held_out: Pair | None, l2: float | None) -> tuple[LinearHead, float | None]:
        """The head's part `(width, D)` solved on frozen features, and its penalty if it was chosen.

        train, held_out: features and values of images that all have one; l2: the penalty, None to choose it.
        """
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """All that predicting needs, in plain types."""
        return {"name": self.name, "kind": self.kind}

    @classmethod
    def from_description(cls, told: dict[str, Any]) -> Self:
        """The target again. KeyError if something is missing."""
        raise NotImplementedError


def by_name(column: Column, classes: list[str], values: np.ndarray) -> dict[int, int]:
    """From a column's class numbers to those of `classes`; ValueError for one that `values` have and these not."""
    known = {name: k for k, name in enumerate(classes)}
    found = column.classes or []
    odd = [found[k] for k in np.unique(values).tolist() if found[k] not in known]
    if odd:
        raise ValueError(
            f"target {column.name!r} has {', '.join(map(repr, odd[:5]))} here and had no such class in the fit: known "
            f"are {', '.join(classes[:20])}"
        )
    return {k: known[name] for k, name in enumerate(found) if name in known}


def listed_weights(weights: Mapping[str, float], classes: list[str]) -> list[float]:
    """Weights in the order of the classes; ValueError unless there is one for each."""
    missing = [name for name in classes if name not in weights]
    if missing:
        raise ValueError(
            f"model.class_weights must name every class of data.source once, and {missing[0]!r} is not in both; the "
            f"classes are {', '.join(classes)}"
        )
    return [float(weights[name]) for name in classes]
