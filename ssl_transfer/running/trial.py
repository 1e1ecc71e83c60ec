"""A fit in memory, for comparisons that make many: no folder, no checkpoints, no validation, no bar."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from torch import Tensor

from ssl_transfer.downstream import Downstream
from ssl_transfer.running.calm import calm
from ssl_transfer.running.fit import trainer_defaults

M = TypeVar("M", bound=Downstream)


@calm
def trial(
    module: M,
    data: Any,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    **trainer_options: Any,
) -> M:
    """Fit `module` on the training split of `data` and give it back; the last step counts.

    No validation image is read, so that no label but those of the training split chooses anything.

    Args:
        module: a new downstream module.
        data: an `ImageDataModule`, which is left as it is.
        steps, epochs: how long; one of the two, a single epoch without.
        batch_size: images a step, that of `data` by default.
        seed: of weights, order and views.
        trainer_options: further arguments of Lightning's `Trainer`, such as `accelerator`.
    """
    assert steps is None or epochs is None, "steps or epochs"
    pl.seed_everything(seed, verbose=False)
    data.setup("fit")
    own = data.without_val()
    own.batch_size = batch_size or data.batch_size
    length = {"max_epochs": epochs or 1}
    if steps is not None and not getattr(module, "solves", False):  # a head that is solved takes one pass, no steps
        length = {"max_steps": steps, "max_epochs": math.ceil(steps / len(own.train_dataloader()))}
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_val_batches": 0,
    }
    trainer = pl.Trainer(**{**trainer_defaults(), "devices": 1, **quiet, **length, **trainer_options})
    try:
        trainer.fit(module, datamodule=own)
    except SystemExit as error:  # Lightning's answer to Ctrl+C
        raise KeyboardInterrupt from error
    return module.to(trainer.strategy.root_device).eval()  # Lightning leaves it on the CPU


@torch.inference_mode()
def scores_of(module: Downstream, data: Any, split: str) -> tuple[Tensor, Tensor]:
    """What a fitted classifier says of the labelled images of a split: probabilities `(N, K)` and targets `(N,)`."""
    parts = [
        (module(batch.images[keep].to(module.device)).cpu(), batch.targets[keep])
        for batch in data.loader(split)
        if (keep := batch.targets >= 0).any()
    ]
    if not parts:
        raise ValueError(
            f"the {split} split of data.source {data.source} has no labelled image: there is none to score"
        )
    scores, targets = (torch.cat(column) for column in zip(*parts, strict=True))
    return scores, targets
