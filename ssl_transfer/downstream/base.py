"""Base of the downstream modules."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from rich import get_console
from rich.progress import track
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.loader import BatchLoader
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
        self.preparation: dict[str, Any] = {}  # of the images, in the fit: what `describe_preparation` gave

    @property
    def changes_encoder(self) -> bool:
        """Whether a fit leaves another encoder than it was given."""
        return self.tuning.trains_encoder

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if hasattr(self, "encoder") and not self.tuning.trains_encoder:
            self.encoder.eval()  # BatchNorm statistics and dropout of a frozen encoder stay put
        return self

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

    # for subclasses

    def with_progress(self, batches: BatchLoader, what: str) -> Iterable[Batch]:
        """Batches with a progress bar of that name, unless the trainer has none or nobody looks."""
        hidden = self.trainer.progress_bar_callback is None or not get_console().is_terminal
        return track(batches, what, total=len(batches), transient=True, disable=hidden)

    def exact_features(self, images: Tensor) -> Tensor:
        """Features `(B, D)` in float32 whatever the trainer is set to, as the model folder gives them."""
        with torch.autocast(images.device.type, enabled=False):
            return self.encoder(images).float()

    def describe_preparation(self) -> dict[str, Any]:
        """How the images are prepared, for the checkpoint."""
        described = self.trainer.datamodule.describe()  # type: ignore[attr-defined]
        return {name: described[name] for name in ("resize", "value_range")}

    def check_preparation(self) -> None:
        """Raise ValueError unless images are prepared as those of the fit were."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        for name, fitted in self.preparation.items():
            own = data.describe()[name]
            if own is not None and fitted is not None and own != fitted:
                raise ValueError(f"data.{name} is {own} here and was {fitted} in the fit: give --data.{name} {fitted}")


def check_one_process(count: int, what: str) -> None:
    """ValueError for several processes where only one can fit `what`."""
    if count > 1:
        raise ValueError(f"trainer.devices: one process fits {what}, not {count}: use --trainer.devices 1")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU; nothing in it is run."""
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return checkpoint
