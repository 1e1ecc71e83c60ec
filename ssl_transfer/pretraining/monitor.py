"""How good the features are while they are being learned: read on held-out images, labels only where there are any."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_transfer.data.batch import Batch
from ssl_transfer.evaluation.diagnostics import alignment, feature_std, rankme, uniformity
from ssl_transfer.evaluation.features import Features, encode
from ssl_transfer.evaluation.probes import accuracy, knn_scores, solve_ridge
from ssl_transfer.pretraining.base import Objective

SHARE = 0.02  # of an epoch's time that encoding may take here; solving and drawing come to as much on small networks
STEP_COST = 6  # encodings of an image that a training step costs: forward and backward, of two views or with a decoder
THUMBNAIL = 48  # px
FLOOR_SIZE = 32  # px at most, of the raw pixels whose neighbours are the floor


@dataclass
class Reading:
    """What was read of an encoder: figures by name with their split, and the images with their features."""

    figures: dict[str, float]
    features: Features  # of the queries, on the CPU
    thumbnails: Tensor  # uint8 (N, C, h, w), at most 48 px


class Monitor(pl.Callback):
    """Reads the encoder after an epoch, on validation images (on training images where there is no such split).

    Logs `val/rankme`, `val/feature_std`, `val/alignment` and `val/uniformity` of two views, and, where images have
    classes, `val/knn_accuracy` and `val/linear_accuracy` (ridge regression, closed form), with the accuracy of raw
    pixels (reduced to 32 px at most) beside them. Labels are read to report: they never train, and choose a checkpoint
    only if a user says so. The test split is never touched.

    Args:
        bank: at most so many training images vote and fit the linear probe.
        queries: at most so many validation images are read.
        pairs: at most so many of them are seen in two views.
        every_n_epochs: how often; by default so that reading costs less than 3 % of an epoch. The first validation, the
            last epoch and the network that is kept in the end are always read.
    """

    def __init__(
        self, bank: int = 3000, queries: int = 1000, pairs: int = 512, every_n_epochs: int | None = None
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
        self._forget()

    def _forget(self) -> None:
        self.seconds = 0.0  # spent here
        self.latest: Reading | None = None
        self.names: set[str] = set()  # of the figures
        self.epoch: int | None = None  # of the last reading
        self.pixels: float | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._forget()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._read_if_due(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not len(trainer.datamodule.indices("val")):  # type: ignore[attr-defined]
            self._read_if_due(trainer, pl_module)

    def _read_if_due(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not isinstance(module, Objective) or not self.due(trainer):
            return
        # One process reads, of all images; the others wait for its figures, so that all choose the same checkpoint.
        figures = self.read(trainer, module).figures if trainer.is_global_zero else {}
        figures = trainer.strategy.broadcast(figures)
        for name, value in figures.items():
            module.log(name, value, prog_bar=name.endswith("knn_accuracy"), sync_dist=True)
        self.epoch, self.names = trainer.current_epoch, set(figures)

    def due(self, trainer: pl.Trainer) -> bool:
        """Whether this epoch is read."""
        last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.global_step == trainer.max_steps
        period = self.period(trainer.datamodule)  # type: ignore[attr-defined]
        return self.epoch is None or last or trainer.current_epoch % period == 0

    def period(self, data: pl.LightningDataModule) -> int:
        """Epochs from one reading to the next."""
        if self.every_n_epochs is not None:
            return self.every_n_epochs
        train, val = len(data.indices("train")), len(data.indices("val"))  # type: ignore[attr-defined]
        queries = min(self.queries, val or train)
        encoded = min(self.bank, train) + queries + 2 * min(self.pairs, queries)
        return math.ceil(encoded / (SHARE * STEP_COST * train))

    @torch.inference_mode()
    def read(self, trainer: pl.Trainer, module: Objective) -> Reading:
        """The encoder as it is, read in this process alone; figures are computed on the CPU."""
        started = time.perf_counter()
        data = trainer.datamodule  # type: ignore[attr-defined]
        split = "val" if len(data.indices("val")) else "train"
        queries = list(data.loader(split, limit=self.queries, everywhere=True))
        with trainer.precision_plugin.forward_context():  # as fast as training
            features = _on_cpu(encode(module.encoder, queries, module.device))
            first, second, difference = self._two_views(module, queries)
        figures = {
            "rankme": rankme(features.features),
            "feature_std": feature_std(features.features),
            "alignment": alignment(first, second),
            "uniformity": uniformity(first) if len(first) > 1 else 0.0,
        }
        if module.compares_views:
            figures["view_difference"] = difference
        classes = data.num_classes if data.table.targets.ndim == 1 else 0  # not several an image
        if classes and split == "val":
            figures |= self._probe(trainer, module, features, queries, classes)
        thumbnails = torch.cat([shrunk(batch.images, THUMBNAIL).round().byte() for batch in queries])
        self.latest = Reading({f"{split}/{name}": value for name, value in figures.items()}, features, thumbnails)
        self.seconds += time.perf_counter() - started
        return self.latest

    def _two_views(self, module: Objective, queries: list[Batch]) -> tuple[Tensor, Tensor, float]:
        """Features of two views of the first queries, and the mean difference of the views' pixels."""
        features, differences, left = [], [], self.pairs
        for batch in queries:
            if left <= 0:
                break
            images, index = batch.images[:left].to(module.device), batch.index[:left].to(module.device)
            views = module.two_views(Batch(images, index, index), epoch=0)
            features.append([encode(module.encoder, [Batch(v, index, index)], module.device).features for v in views])
            differences.append(float((views[0] - views[1]).abs().mean()))
            left -= len(index)
        first, second = (torch.cat(column).cpu() for column in zip(*features, strict=True))
        return first, second, sum(differences) / len(differences)

    def _probe(
        self, trainer: pl.Trainer, module: Objective, features: Features, queries: list[Batch], classes: int
    ) -> dict[str, float]:
        """Accuracies of kNN, of raw pixels and of a linear probe, if there are labelled images on both sides."""
        bank = list(trainer.datamodule.loader("train", limit=self.bank, everywhere=True))  # type: ignore[attr-defined]
        with trainer.precision_plugin.forward_context():
            known = _on_cpu(encode(module.encoder, bank, module.device)).labelled()
        asked = features.labelled()
        if not len(known.features) or not len(asked.features):
            return {}
        if self.pixels is None:
            self.pixels = _knn(_pixels(bank).labelled(), _pixels(queries).labelled(), classes)
        linear = solve_ridge(known.features, known.targets, classes)
        return {
            "knn_accuracy": _knn(known, asked, classes),
            "knn_accuracy_raw_pixels": self.pixels,
            "linear_accuracy": accuracy(linear(asked.features), asked.targets),
        }

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epoch, self.seconds = state_dict["epoch"], state_dict["seconds"]


def shrunk(images: Tensor, size: int) -> Tensor:
    """Images `(B, C, H, W)` as floats of their own range, averaged down where a side exceeds `size`."""
    x = images.float()
    longest = max(x.shape[2:])
    if longest <= size:
        return x
    height, width = (max(1, round(side * size / longest)) for side in x.shape[2:])
    return F.interpolate(x, (height, width), mode="area")


def _on_cpu(features: Features) -> Features:
    return Features(features.features.cpu(), features.targets.cpu(), features.index.cpu())


def _pixels(batches: list[Batch]) -> Features:
    small = [shrunk(batch.images, FLOOR_SIZE).flatten(1) for batch in batches]
    targets, index = (torch.cat(column) for column in zip(*((b.targets, b.index) for b in batches), strict=True))
    return Features(torch.cat(small), targets, index)


def _knn(known: Features, asked: Features, classes: int) -> float:
    return accuracy(knn_scores(known.features, known.targets, asked.features, classes), asked.targets)
