"""What every pretraining objective shares: the encoder, its optimiser, and randomness that survives a resume."""

from __future__ import annotations

import os
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.randomness import KeyedRandom, mix_integers
from ssl_transfer.data.views import Views
from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder
from ssl_transfer.optimisation import Optimisation, total_steps


def run_seed() -> int:
    """The seed given to `seed_everything`, 0 without one."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


class Objective(pl.LightningModule):
    """Base of the pretraining objectives. A subclass gives `build_heads` and `loss`, and often a default `encoder`.

    Args:
        encoder: an `EncoderSpec`, the name of a network, the folder of a saved encoder to go on from, or a module.
        optimisation: optimiser, learning rate and schedule.
    """

    encoder: Encoder
    selects_by = "val/loss"  # the best checkpoint's
    compares_views = False  # whether it learns from the agreement of two views of an image
    views = Views()  # in which features are compared; contrastive objectives learn by theirs

    def __init__(self, encoder: EncoderSpec | str | nn.Module, optimisation: Optimisation | None = None) -> None:
        super().__init__()
        self.chosen_encoder = [encoder]  # in a list, so that a module given here is not registered twice
        self.optimisation = optimisation or Optimisation()

    def build_heads(self) -> None:
        """Create the networks beside the encoder; `self.encoder` exists, and training will discard these."""
        raise AssertionError("an objective builds its heads")

    def loss(self, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch and further figures to log. Labels in the batch are not to be read."""
        raise AssertionError("an objective has a loss")

    def configure_model(self) -> None:
        if hasattr(self, "encoder"):
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if data.label_budget is not None and self.trainer.state.fn == "fit":
            raise ValueError(
                f"data.label_budget={data.label_budget} would choose the images to pretrain on by their labels: "
                "leave it out, and give it to the classifier"
            )
        torch.manual_seed(run_seed())
        self.encoder = build_encoder(self.chosen_encoder[0], data.shape, data.mean, data.std)
        self.build_heads()

    def chance_loss(self, batch_size: int) -> float | None:
        """The loss of a network that guesses, for a global batch of this many images; `None` where there is no such."""
        return None

    def two_views(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor]:
        """Two views of the batch's images, floats in [0, 1], `(B, C, H, W)` each."""
        first = self.views(batch.images, self.random(batch, epoch, stream=1))
        second = self.views(batch.images, self.random(batch, epoch, stream=2))
        return first, second

    def random(self, batch: Batch, epoch: int, stream: int = 0) -> KeyedRandom:
        """The batch's random numbers: a function of the seed, the epoch, the image and the stream."""
        return KeyedRandom(batch.index, run_seed(), epoch, stream)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        torch.manual_seed(mix_integers(run_seed(), self.current_epoch, batch_idx, self.global_rank))  # for dropout

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        loss, figures = self.loss(batch, self.current_epoch)
        self.log("loss", loss, prog_bar=True, logger=False)
        self._log("train", {"loss": loss, **figures}, batch)
        return {"loss": loss, **{name: value.detach() for name, value in figures.items()}}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate("test", batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        with torch.autocast(batch.images.device.type, enabled=False):
            return {"index": batch.index, "features": self.encoder(batch.images).float()}

    def configure_optimizers(self) -> Any:
        modules = [m for m in self.children() if any(p.requires_grad for p in m.parameters())]
        return self.optimisation.configure(modules, total_steps(self.trainer))

    def _evaluate(self, split: str, batch: Batch) -> None:
        """The loss under the views or corruptions of epoch 0, so that epochs are compared on equal terms."""
        loss, figures = self.loss(batch, epoch=0)
        self._log(split, {"loss": loss, **figures}, batch)

    def _log(self, split: str, figures: dict[str, Tensor], batch: Batch) -> None:
        for name, value in figures.items():
            size = len(batch.index)
            self.log(f"{split}/{name}", value, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
