"""How good the features are while they are being learned: kNN on held-out labelled images, once an epoch."""

from __future__ import annotations

import pytorch_lightning as pl

from ssl_transfer.evaluation.features import encode
from ssl_transfer.evaluation.probes import accuracy, knn_scores
from ssl_transfer.pretraining.base import Objective


class OnlineKNN(pl.Callback):
    """Logs `val/knn_accuracy`: training images vote on the class of validation images.

    It reads labels to report, never to train or to choose a checkpoint, and does nothing where there are none.

    Args:
        bank: at most so many labelled training images vote.
        queries: at most so many validation images are classified.
    """

    def __init__(self, bank: int = 4000, queries: int = 1000) -> None:
        self.bank = bank
        self.queries = queries

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(pl_module, Objective) or not trainer.is_global_zero:
            return
        if not data.num_classes or data.table.targets.ndim != 1:  # no classes, or several an image
            return
        bank = encode(pl_module.encoder, data.loader("train", limit=self.bank), pl_module.device).labelled()
        queries = encode(pl_module.encoder, data.loader("val", limit=self.queries), pl_module.device).labelled()
        if len(bank.features) and len(queries.features):
            scores = knn_scores(bank.features, bank.targets, queries.features, data.num_classes)
            value = accuracy(scores, queries.targets)
            pl_module.log("val/knn_accuracy", value, prog_bar=True, rank_zero_only=True)
