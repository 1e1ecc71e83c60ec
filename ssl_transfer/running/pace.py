"""How fast a fit goes, whether it waits for images, and how large its gradients are."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch


class Pace(pl.Callback):
    """Logs `train/images_per_second`, `train/data_wait_share` and `train/gradient_norm` of every epoch.

    The clock runs from the start of the epoch to the end of its last step, validation apart. The gradient's norm is
    that before any clipping, averaged over the steps. The speed of an epoch that was gone on with is that since then.
    """

    def __init__(self) -> None:
        self._reset(None)
        self._forget_norms()

    def _reset(self, loader: Any) -> None:
        self.images = 0
        self.started = self.ended = time.perf_counter()
        self.paused = self.validated = 0.0  # seconds of validation: before the last step, and after it
        self.waited = self.waited_before = getattr(loader, "seconds_waited", 0.0)

    @property
    def seconds_waited(self) -> float:
        """How long this epoch's steps have waited for images."""
        return float(self.waited - self.waited_before)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._reset(trainer.train_dataloader)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._reset(trainer.train_dataloader)
        self._forget_norms()

    def _forget_norms(self) -> None:
        self.norm, self.steps = torch.zeros(()), torch.zeros(())  # sum over the epoch's steps, and their number

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients).float()
        finite = norm.isfinite()  # a step of float16 that overflows is left out, as its optimiser leaves it out
        self.norm = self.norm.to(norm.device) + torch.where(finite, norm, 0.0)
        self.steps = self.steps.to(norm.device) + finite

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images += len(batch.index) * trainer.world_size
        self.paused, self.validated = self.paused + self.validated, 0.0
        if trainer.is_last_batch and torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ended = time.perf_counter()
        self.waited = getattr(trainer.train_dataloader, "seconds_waited", 0.0)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validating_since = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validated += time.perf_counter() - self.validating_since

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not float(self.steps):  # a head that was solved
            return
        seconds = max(self.ended - self.started - self.paused, 1e-9)
        figures: dict[str, float | torch.Tensor] = {
            "images_per_second": self.images / seconds,
            "data_wait_share": self.seconds_waited / seconds,
            "gradient_norm": self.norm / self.steps,
        }
        for name, value in figures.items():
            pl_module.log(f"train/{name}", value, sync_dist=True)

    def state_dict(self) -> dict[str, Any]:
        return {"norm": self.norm, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.norm, self.steps = state_dict["norm"], state_dict["steps"]
