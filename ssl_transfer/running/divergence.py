"""Training that has lost itself in infinities is stopped, and what was good is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch

from ssl_transfer.running.folder import RunFolder

EVERY = 20  # steps from one look to the next: looking makes the device wait


class DivergenceGuard(pl.Callback):
    """Stops a fit whose loss is not finite, in one line; no checkpoint is written from then on."""

    def __init__(self) -> None:
        self.total: torch.Tensor | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not isinstance(outputs, Mapping) or "loss" not in outputs:
            return
        loss = outputs["loss"].detach().float()
        self.total = loss if self.total is None else self.total + loss  # once not finite, for ever not finite
        if (batch_idx + 1) % EVERY and not trainer.is_last_batch:
            return
        total = trainer.strategy.reduce(self.total, reduce_op="sum")  # of all processes: they stop together
        self.total = None
        if not bool(torch.as_tensor(total).isfinite()):
            raise diverged(trainer, pl_module)


def weights_are_finite(module: pl.LightningModule) -> bool:
    """Whether every parameter is a finite number."""
    parameters = [parameter.detach() for parameter in module.parameters()]
    return not parameters or bool(torch.nn.utils.get_total_norm(parameters).isfinite())


def diverged(trainer: pl.Trainer, module: pl.LightningModule) -> ValueError:
    """The line that tells what happened, what is kept, and the cure."""
    last = RunFolder(trainer.default_root_dir).last
    kept = f"the last good checkpoint is kept in {last}" if last.exists() else "no checkpoint had been written yet"
    rate = getattr(getattr(module, "optimisation", None), "lr", None)
    return ValueError(
        f"training diverged in epoch {trainer.current_epoch + 1}: its loss or weights are not finite any more; {kept}; "
        f"lower --model.optimisation.lr{'' if rate is None else f' ({rate:g})'} and fit again with --overwrite"
    )
