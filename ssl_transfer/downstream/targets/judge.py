"""The figures of a split, of all targets together."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from ssl_transfer.downstream.targets.base import TargetKind
from ssl_transfer.downstream.targets.one_class import ClassTarget
from ssl_transfer.downstream.targets.targets import Targets
from ssl_transfer.evaluation.metrics import wilson_interval


class Judge(nn.Module):
    """Metrics of a split, target by target: `val/accuracy` of one target, `val/NAME/accuracy` of several.

    Of several there is `val/score` as well, the mean of each one's first figure (accuracy, mean average precision, R²).

    Args:
        targets: which.
        split: the figures' first word.
        intervals: with the interval of an accuracy (`accuracy_low`, `accuracy_high`), and the `confusion` of the only
            target, if it is a class, as `(K, K)` counts of true by predicted class.
    """

    confusion: Tensor | None = None

    def __init__(self, targets: Targets, split: str, intervals: bool = False) -> None:
        super().__init__()
        self.targets, self.split = targets, split
        self.metrics = nn.ModuleList(kind.metrics(targets.prefix(split, kind)) for kind in targets.kinds)
        self.counts = nn.ModuleList(
            MulticlassConfusionMatrix(kind.width) if intervals and isinstance(kind, ClassTarget) else nn.Identity()
            for kind in targets.kinds
        )

    def update(self, answers: Tensor, values: Sequence[Tensor]) -> None:
        """Take answers `(B, width)` and each target's values."""
        parts = zip(self.targets.kinds, self.metrics, self.counts, self.targets.split(answers), values, strict=True)
        for kind, metrics, counts, own, truth in parts:
            keep = kind.present(truth)
            if keep.any():
                scored, seen = own[keep].float(), kind.truth(truth[keep])
                metrics.update(scored, seen)  # type: ignore[operator]
                if not isinstance(counts, nn.Identity):
                    counts.update(scored, seen)  # type: ignore[operator]

    def figures(self, anywhere: Callable[[bool], bool]) -> dict[str, Any]:
        """The figures of all processes; none of a target that no image has.

        anywhere: whether something holds in any process; each asks in the same order.
        """
        found: dict[str, Any] = {}
        for kind, metrics, counts in zip(self.targets.kinds, self.metrics, self.counts, strict=True):
            if anywhere(any(metric.update_called for metric in metrics.values())):  # type: ignore[operator]
                found |= _of_all(metrics)
                if not isinstance(counts, nn.Identity):
                    found |= self._interval(kind, _of_all(counts).long().cpu(), found)
        if found and not self.targets.single:
            found[f"{self.split}/score"] = self.targets.score(found, self.split)
        self.reset()
        return found

    def _interval(self, kind: TargetKind, confusion: Tensor, found: dict[str, Any]) -> dict[str, float]:
        if self.targets.single:
            self.confusion = confusion
        name = f"{self.targets.prefix(self.split, kind)}accuracy"
        low, high = wilson_interval(float(found[name]), int(confusion.sum()))
        return {f"{name}_low": low, f"{name}_high": high}

    def reset(self) -> None:
        """Forget what was seen."""
        for metric in (*self.metrics, *self.counts):
            if not isinstance(metric, nn.Identity):
                metric.reset()  # type: ignore[operator]


def _of_all(metrics: Any) -> Any:
    """What metrics amount to over all processes, of which some may have seen nothing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The ``compute`` method of metric .* was called before")
        return metrics.compute()
