"""All that a module learns of an image: one target or several, which share the rows of one linear head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_transfer.downstream.targets.base import ClassWeights, TargetKind
from ssl_transfer.downstream.targets.column import OWN_LABEL, Column, Kind
from ssl_transfer.downstream.targets.multi_label import MultiLabelTarget
from ssl_transfer.downstream.targets.one_class import ClassTarget
from ssl_transfer.downstream.targets.regression import RegressionTarget

KINDS: dict[str, type[TargetKind]] = {
    kind.kind: kind
    for kind in (ClassTarget, MultiLabelTarget, RegressionTarget)  # type: ignore[type-abstract]
}


@dataclass
class Target:
    """A column to learn, where its name does not say all.

    Args:
        column: of the manifest; "label" is the source's own.
        kind: class, multi_label or regression; by default what the column holds: text and whole numbers are classes,
            other numbers a regression's, lists several labels.
        weight: of its loss in the mean over all targets.

    >>> Target("age", kind="regression", weight=0.5)
    Target(column='age', kind='regression', weight=0.5)
    """

    column: str
    kind: Kind | None = None
    weight: float = 1.0


class Targets:
    """The targets of a module. Outputs `(B, width)` of its head are theirs one after the other.

    Args:
        kinds: the targets.
        weights: of their losses; all 1 by default.

    >>> targets = Targets([ClassTarget("label", ["ant", "bee"]), RegressionTarget("age", 40.0, 10.0)])
    >>> targets.width, [part.shape[1] for part in targets.split(torch.zeros(5, 3))]
    (3, [2, 1])
    """

    def __init__(self, kinds: Sequence[TargetKind], weights: Sequence[float] | None = None) -> None:
        assert kinds and (weights is None or len(weights) == len(kinds))
        self.kinds = list(kinds)
        self.weights = list(weights or [1.0] * len(self.kinds))

    @classmethod
    def of(
        cls,
        data: Any,
        chosen: Sequence[str | Target] | None = None,
        smoothing: float = 0.0,
        class_weights: ClassWeights | None = None,
    ) -> Targets:
        """The targets of an `ImageDataModule` that has been set up.

        Args:
            data: the source.
            chosen: columns of its manifest; None: its own label.
            smoothing, class_weights: see `TargetKind.of`.

        Raises ValueError for a column that is not there, or one in which there is nothing to learn.
        """
        asked = [Target(each) if isinstance(each, str) else each for each in chosen or [OWN_LABEL]]
        train = data.indices("train")
        columns = [Column.read(data, target.column, target.kind) for target in asked]
        named = {name for column in columns for name in column.classes or []}
        if unknown := sorted(set(class_weights or []) - named) if isinstance(class_weights, Mapping) else []:
            raise ValueError(
                f"model.class_weights must name every class of data.source once, and {unknown[0]!r} is not in both; "
                f"the classes are {', '.join(sorted(named))}"
            )
        if not named and (smoothing or class_weights):
            option = "label_smoothing" if smoothing else "class_weights"
            raise ValueError(f"model.{option} is for classes and labels, and the targets are numbers: leave it out")
        try:
            kinds = [
                KINDS[column.kind].of(column, train, smoothing, _weights_of(column, class_weights))
                for column in columns
            ]
        except ValueError as error:
            raise ValueError(f"data.source {data.source}: {error}") from error
        return cls(kinds, [target.weight for target in asked])

    @property
    def width(self) -> int:
        """How many outputs all of them have."""
        return sum(kind.width for kind in self.kinds)

    @property
    def single(self) -> TargetKind | None:
        """The target, if it is the only one."""
        return self.kinds[0] if len(self.kinds) == 1 else None

    def split(self, outputs: Tensor) -> list[Tensor]:
        """Outputs or answers `(B, width)` by target."""
        return list(outputs.split([kind.width for kind in self.kinds], dim=1))

    # values

    def read(self, data: Any) -> list[np.ndarray]:
        """The values of every image of a set-up `ImageDataModule`, each target's `(N, …)`, by the fit's classes."""
        return [kind.read(Column.read(data, kind.name, kind.kind)) for kind in self.kinds]

    def present(self, values: Sequence[Tensor]) -> Tensor:
        """Which images have a value of which target, boolean `(B, T)`."""
        return torch.stack([kind.present(own) for kind, own in zip(self.kinds, values, strict=True)], dim=1)

    def check_splits(self, data: Any, read: Sequence[np.ndarray]) -> None:
        """ValueError for a class that occurs in a split that the source states, and in no training image.

        read: what `read` gave of `data`.
        """
        for kind, values in zip(self.kinds, read, strict=True):
            if not isinstance(kind, ClassTarget):
                continue
            seen = set(values[data.indices("train")].tolist())
            for split in data.stated_splits:  # one that we drew may hold a rare class alone
                for value in sorted(set(values[data.indices(split)].tolist()) - seen - {-1}):
                    raise ValueError(
                        f"data.source {data.source}: class {kind.classes[value]!r} occurs in the {split} split but no "
                        "training image has it: correct the label, or add training images of the class"
                    )

    # learning

    def losses(self, outputs: Tensor, values: Sequence[Tensor]) -> Tensor:
        """Each target's mean loss over the images that have a value of it, `(T,)`; 0 where none has."""
        parts = zip(self.kinds, self.split(outputs), values, strict=True)
        return torch.stack([kind.loss(part, own) for kind, part, own in parts])

    def total(self, losses: Tensor) -> Tensor:
        """The weighted mean of the targets' losses."""
        weights = losses.new_tensor(self.weights)
        return (losses * weights).sum() / weights.sum()

    def loss(self, outputs: Tensor, values: Sequence[Tensor]) -> Tensor:
        """The weighted mean of the targets' losses; an image without one target still teaches the others."""
        return self.total(self.losses(outputs, values))

    def solve(
        self,
        train: tuple[Tensor, Sequence[Tensor]],
        held_out: tuple[Tensor, Sequence[Tensor]] | None,
        l2: float | None,
    ) -> tuple[Tensor, Tensor, list[float | None]]:
        """The head's weight `(width, D)` and bias `(width,)` solved on frozen features, and the penalties chosen.

        train, held_out: features `(N, D)` and each target's values; l2: the penalty, None to choose one for each.
        """
        heads, chosen = [], []
        for place, kind in enumerate(self.kinds):
            own = _with_values(kind, train, place)
            other = None if held_out is None else _with_values(kind, held_out, place)
            head, penalty = kind.solve(own, other, l2)
            heads.append(head)
            chosen.append(penalty)
        return torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads]), chosen

    # judging

    def answer(self, outputs: Tensor) -> Tensor:
        """Probabilities and numbers `(B, width)`."""
        return torch.cat([kind.answer(part) for kind, part in zip(self.kinds, self.split(outputs), strict=True)], dim=1)

    def prefix(self, split: str, kind: TargetKind) -> str:
        """What a target's figures begin with: `val/` of the only target, `val/NAME/` of several."""
        return f"{split}/" if self.single else f"{split}/{kind.name}/"

    @property
    def selects_by(self) -> str:
        """The figure by which an epoch is the best: the target's own, or `val/score` of several."""
        return f"val/{self.single.figure}" if self.single else "val/score"

    def score(self, figures: dict[str, Any], split: str) -> float:
        """The mean of the targets' figures, 1 at best: accuracy, mean average precision, R². Those not there are left
        out; NaN without any.
        """
        found = [float(figures.get(f"{self.prefix(split, kind)}{kind.figure}", np.nan)) for kind in self.kinds]
        there = [value for value in found if not np.isnan(value)]
        return float(np.mean(there)) if there else float("nan")

    # telling

    def told(self, answers: Tensor) -> dict[str, list[Any]]:
        """What a person is told of each image, by the target's name."""
        return {kind.name: kind.told(own) for kind, own in zip(self.kinds, self.split(answers), strict=True)}

    def columns(self, answers: Tensor) -> tuple[dict[str, Any], dict[str, str]]:
        """Columns for predictions.parquet, and the names of the scores.

        `prediction` and `scores` of one target, `NAME` and `NAME_scores` of several; a number has no scores.
        """
        columns: dict[str, Any] = {}
        notes: dict[str, str] = {}
        for kind, own in zip(self.kinds, self.split(answers), strict=True):
            told, scores, classes = (
                ("prediction", "scores", "classes")
                if self.single
                else (kind.name, f"{kind.name}_scores", f"{kind.name}_classes")
            )
            columns[told] = kind.told(own)
            if kind.classes:
                columns[scores] = own.contiguous()
                notes[classes] = "\n".join(kind.classes)
        return columns, notes

    def describe(self) -> list[dict[str, Any]]:
        """All that predicting needs, in plain types."""
        return [kind.describe() for kind in self.kinds]

    @classmethod
    def from_description(cls, told: Sequence[dict[str, Any]]) -> Targets:
        """The targets again, for predicting. KeyError if something is missing."""
        return cls([KINDS[each["kind"]].from_description(each) for each in told])


def check_choice(chosen: Sequence[str | Target] | None) -> None:
    """ValueError for no target at all, one that stands twice, or a weight that is none."""
    if chosen is None:
        return
    asked = [Target(each) if isinstance(each, str) else each for each in chosen]
    names = [target.column for target in asked]
    if not names:
        raise ValueError("model.targets is empty: name columns of the manifest, or leave it out for the label")
    for target in asked:
        if names.count(target.column) > 1:
            raise ValueError(
                f"model.targets names {target.column!r} {names.count(target.column)} times: once is enough"
            )
        if target.weight <= 0:
            raise ValueError(
                f"model.targets: the weight of {target.column!r} must be above 0, not {target.weight:g}; leave out a "
                "target that is not to be learnt"
            )


def _weights_of(column: Column, weights: ClassWeights | None) -> ClassWeights | None:
    """Of weights by name those that are a column's; None where it has no class of these names."""
    if not isinstance(weights, Mapping) or set(weights) & set(column.classes or []):
        return weights
    return None


def _with_values(kind: TargetKind, pair: tuple[Tensor, Sequence[Tensor]], place: int) -> tuple[Tensor, Tensor]:
    """Features and values of the images that have one of the target at `place`."""
    features, values = pair[0], pair[1][place]
    keep = kind.present(values)
    return features[keep], values[keep]
