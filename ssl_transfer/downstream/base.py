"""Base of the downstream modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from ssl_transfer.downstream.fitted import Fitted
from ssl_transfer.downstream.tuning import Tuning
from ssl_transfer.encoders import Encoder, EncoderSpec
from ssl_transfer.optimisation import Optimisation


class Downstream(pl.LightningModule):
    """An encoder put to work. A subclass builds itself in `configure_model` and gives what is raised here.

    Args:
        encoder: the folder of a pretrained encoder, an `EncoderSpec`, the name of a network, or a module.
        tuning: how the encoder is treated.
    """

    encoder: Encoder
    optimisation: Optimisation
    selects_by: str | None = None  # the figure by which the best checkpoint is chosen; None: the last counts

    def __init__(self, encoder: EncoderSpec | str | nn.Module, tuning: Tuning) -> None:
        super().__init__()
        self.chosen_encoder = [encoder]  # in a list, so that a module given here is not registered twice
        self.tuning = tuning

    @property
    def changes_encoder(self) -> bool:
        """Whether a fit leaves another encoder than it was given."""
        return self.tuning.trains_encoder

    def learn_from(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Take from a fitted checkpoint what must be known before the module is built.

        Raises ValueError if another kind of module has written it.
        """
        raise NotImplementedError

    def fitted(self, data: dict[str, Any], metrics: dict[str, float]) -> Fitted:
        """What goes into the model folder. data: `ImageDataModule.describe()`; metrics: figures for the card."""
        raise NotImplementedError

    def columns(self, outputs: list[Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Columns of predictions.parquet from the outputs of `predict_step`, in their order, and the file's notes."""
        raise NotImplementedError


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU; nothing in it is run."""
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return checkpoint
