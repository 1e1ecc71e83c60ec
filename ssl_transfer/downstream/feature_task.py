"""Base of the downstream modules that fit a method on features, and score a split as a whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssl_transfer.data.batch import Batch
from ssl_transfer.downstream.base import Downstream
from ssl_transfer.evaluation.features import Features
from ssl_transfer.pretraining.base import run_seed


class FeatureTask(Downstream):
    """A method without labels on an encoder's features; a subclass gives `method` and `score`.

    The features of a split are collected batch by batch and scored when all are seen.
    """

    method: Any

    def begin(self) -> None:
        """Call at the end of the constructor."""
        self.seen: list[Features] = []  # of the split that is being scored

    def score(self, seen: Features) -> dict[str, float]:
        """Figures of a split by name, without its own."""
        raise NotImplementedError

    def check_no_budget(self) -> None:
        """Raise ValueError where a label budget would take training images away: no label is read."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if data.label_budget is not None:
            raise ValueError(
                f"data.label_budget {data.label_budget} leaves out training images, and a {type(self).__name__} reads "
                "no labels: leave it out"
            )

    def fit_method(self, vectors: Tensor, **more: Any) -> None:
        """Fit the method with the seed of the run added to its own, so that another run has other draws."""
        asked = getattr(self.method, "seed", None)
        if asked is not None:
            self.method.seed = asked + run_seed()
        try:
            self.method.fit(vectors, **more)
        finally:
            if asked is not None:
                self.method.seed = asked

    def on_validation_start(self) -> None:
        if self.trainer.state.fn == "validate":
            self.check_preparation()

    def on_test_start(self) -> None:
        self.check_preparation()

    def on_predict_start(self) -> None:
        self.check_preparation()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._see(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._see(batch)

    def on_validation_epoch_end(self) -> None:
        self._score("val")

    def on_test_epoch_end(self) -> None:
        self._score("test")

    def _see(self, batch: Batch) -> None:
        self.seen.append(Features(self.exact_features(batch.images), batch.targets, batch.index))

    def _score(self, split: str) -> None:
        if not self.seen:
            return
        columns = ((part.features, part.targets, part.index) for part in self.seen)
        features, targets, index = (torch.cat(column) for column in zip(*columns, strict=True))
        self.seen = []
        figures = self.score(Features(features, targets, index))
        self.log_dict({f"{split}/{name}": value for name, value in figures.items()})


def class_labels(targets: Tensor) -> Tensor | None:
    """Targets that are classes, of which an image at least has one; None otherwise."""
    classes = targets.ndim == 1 and not targets.is_floating_point() and bool((targets >= 0).any())
    return targets if classes else None
