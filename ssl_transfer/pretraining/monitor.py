"""How good the features are while they are being learned: read on held-out images, labels only where there are any."""

from __future__ import annotations

import math
import time

import pytorch_lightning as pl
import torch

from ssl_transfer.data.batch import Batch
from ssl_transfer.evaluation.diagnostics import alignment, feature_std, rankme, uniformity
from ssl_transfer.evaluation.features import Features, encode
from ssl_transfer.evaluation.probes import accuracy, knn_scores, solve_ridge
from ssl_transfer.pretraining.base import Objective

SHARE = 0.02  # of an epoch's time that encoding may take here; solving and drawing come to as much on small networks
STEP_COST = 6  # encodings of an image that a training step costs: forward and backward, of two views or with a decoder


class Monitor(pl.Callback):
    """Reads the encoder after an epoch, on validation images (on training images where there is no such split).

    Logs `val/rankme`, `val/feature_std`, `val/alignment` and `val/uniformity` of two views, and, where images have
    classes, `val/knn_accuracy` and `val/linear_accuracy` (ridge regression, closed form), with the accuracy of raw
    pixels beside them. Labels are read to report: they never train, and choose a checkpoint only if a user says so.
    The test split is never touched.

    Args:
        bank: at most so many training images vote and fit the linear probe.
        queries: at most so many validation images are read.
        pairs: at most so many of them are seen in two views.
        every_n_epochs: how often; by default so that reading costs less than 3 % of an epoch. The first epoch and the
            last are always read.
    """

    def __init__(
        self, bank: int = 4000, queries: int = 1000, pairs: int = 512, every_n_epochs: int | None = None
    ) -> None:
        for name, value in (("bank", bank), ("queries", queries), ("pairs", pairs)):
            if value < 2:
                raise ValueError(f"monitor.{name} must be at least 2 images, not {value}")
        if every_n_epochs is not None and every_n_epochs < 1:
            raise ValueError(f"monitor.every_n_epochs must be at least 1, or null to choose, not {every_n_epochs}")
        self.bank = bank
        self.queries = queries
        self.pairs = pairs
        self.every_n_epochs = every_n_epochs
        self.seconds = 0.0
        self.latest: Features | None = None  # of the queries, for who wants to draw them
        self.pixels: float | None = None

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._read_if_due(trainer, pl_module, "val")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not len(trainer.datamodule.indices("val")):  # type: ignore[attr-defined]
            self._read_if_due(trainer, pl_module, "train")

    def _read_if_due(self, trainer: pl.Trainer, module: pl.LightningModule, split: str) -> None:
        if not isinstance(module, Objective) or not self.due(trainer):
            return
        started = time.perf_counter()
        # One process reads, of all images; the others wait for its figures, so that all choose the same checkpoint.
        figures = self.read(trainer, module, split) if trainer.is_global_zero else {}
        figures = trainer.strategy.broadcast(figures)
        for name, value in figures.items():
            module.log(name, value, prog_bar=name.endswith("knn_accuracy"), sync_dist=True)
        self.seconds += time.perf_counter() - started

    def due(self, trainer: pl.Trainer) -> bool:
        """Whether this epoch is read."""
        last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.global_step == trainer.max_steps
        return last or trainer.current_epoch % self.period(trainer.datamodule) == 0  # type: ignore[attr-defined]

    def period(self, data: pl.LightningDataModule) -> int:
        """Epochs from one reading to the next."""
        if self.every_n_epochs is not None:
            return self.every_n_epochs
        train, val = len(data.indices("train")), len(data.indices("val"))  # type: ignore[attr-defined]
        queries = min(self.queries, val or train)
        encoded = min(self.bank, train) + queries + 2 * min(self.pairs, queries)
        return math.ceil(encoded / (SHARE * STEP_COST * train))

    @torch.inference_mode()
    def read(self, trainer: pl.Trainer, module: Objective, split: str) -> dict[str, float]:
        """The figures of the encoder as it is, by name with their split."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        classes = data.num_classes if data.table.targets.ndim == 1 else 0  # not several an image
        queries = list(data.loader(split, limit=self.queries, everywhere=True))
        bank = list(data.loader("train", limit=self.bank, everywhere=True)) if classes else []
        views = self._two_views(module, queries)
        with trainer.precision_plugin.forward_context():  # as fast as training
            self.latest = encode(module.encoder, queries, module.device)
            first, second = (encode(module.encoder, [view], module.device).features for view in views)
            known = encode(module.encoder, bank, module.device).labelled() if bank else None
        figures = {
            "rankme": rankme(self.latest.features),
            "feature_std": feature_std(self.latest.features),
            "alignment": alignment(first, second),
            "uniformity": uniformity(first),
        }
        if module.chance_loss(2) is not None:  # it learns from views
            figures["view_difference"] = float((views[0].images - views[1].images).abs().mean())
        if known is not None:
            figures |= self._probe(known, self.latest.labelled(), classes)
            if "knn_accuracy" in figures:
                self.pixels = _pixel_knn(bank, queries, classes) if self.pixels is None else self.pixels
                figures["knn_accuracy_raw_pixels"] = self.pixels
        return {f"{split}/{name}": value for name, value in figures.items()}

    def look(self, module: pl.LightningModule, data: pl.LightningDataModule) -> Features | None:
        """Features of the queries by the objective's encoder as it is now; `None` for other modules."""
        if not isinstance(module, Objective):
            return None
        split = next(split for split in ("val", "train", "all") if len(data.indices(split)))  # type: ignore[attr-defined]
        queries = data.loader(split, limit=self.queries, everywhere=True)  # type: ignore[attr-defined]
        return encode(module.encoder, queries, module.device)

    def _two_views(self, module: Objective, queries: list[Batch]) -> list[Batch]:
        images, index = torch.cat([b.images for b in queries]), torch.cat([b.index for b in queries])
        images, index = images[: self.pairs].to(module.device), index[: self.pairs].to(module.device)
        views = module.two_views(Batch(images, index, index), epoch=0)
        return [Batch(view, index, index) for view in views]

    @staticmethod
    def _probe(known: Features, asked: Features, classes: int) -> dict[str, float]:
        """Accuracies of kNN and of a linear probe, if there are labelled images on both sides."""
        if not len(known.features) or not len(asked.features):
            return {}
        knn = knn_scores(known.features, known.targets, asked.features, classes)
        linear = solve_ridge(known.features, known.targets, classes)
        return {
            "knn_accuracy": accuracy(knn, asked.targets),
            "linear_accuracy": accuracy(linear(asked.features), asked.targets),
        }


def _pixel_knn(bank: list[Batch], queries: list[Batch], classes: int) -> float:
    """The floor: kNN accuracy of the pixels themselves."""
    known, asked = (
        encode(torch.nn.Flatten(), [Batch(b.images.float(), *b[1:]) for b in batches]).labelled()
        for batches in (bank, queries)
    )
    return accuracy(knn_scores(known.features, known.targets, asked.features, classes), asked.targets)
