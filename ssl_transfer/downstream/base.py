"""Base of the downstream modules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from rich import get_console
from rich.progress import track
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.loader import BatchLoader
from ssl_transfer.data.randomness import mix_integers
from ssl_transfer.downstream.fitted import Fitted
from ssl_transfer.downstream.tuning import AsIs, Frozen, Tuning
from ssl_transfer.encoders import Encoder, EncoderSpec
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.pretraining.base import run_seed


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
        self.awake: set[str] = set()  # the encoder's parameters that learn now
        self._awake_in = -1  # the epoch for which these were asked

    @property
    def changes_encoder(self) -> bool:
        """Whether a fit leaves another encoder than it was given."""
        return self.tuning.trains_encoder

    @property
    def kept_encoder(self) -> Encoder:
        """The encoder that a fit leaves: of the architecture it began with."""
        return self.tuning.finished(self.encoder)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if mode and hasattr(self, "encoder"):
            self.tuning.set_modes(self.encoder, self.awake)
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

    # how the encoder learns

    def start_encoder(self, data: Any) -> None:
        """Build the encoder as the tuning has it begin, with what ever learns marked as needing a gradient."""
        torch.manual_seed(run_seed())
        self.encoder = self.tuning.encoder(self.chosen_encoder[0], data.shape, data.mean, data.std)
        self.awake = self.tuning.chosen(self.encoder)
        self._mark(self.awake)
        if self.tuning.l2_sp:  # in a list: neither parameters nor part of a checkpoint
            self._start = [{n: p.detach().clone() for n, p in self.encoder.named_parameters() if n in self.awake}]

    def wake(self) -> None:
        """Let learn what learns in this epoch. To be called before each batch: a run may resume within an epoch."""
        epoch = self.trainer.current_epoch
        if epoch == self._awake_in:
            return
        self.awake = self.tuning.awake(self.encoder, epoch, self._epochs())
        if self.trainer.world_size == 1:  # of several processes, each waits for the gradients of what once was marked
            self._mark(self.awake)
        self.train(self.training)
        self._awake_in = epoch

    def _epochs(self) -> int:
        """How many epochs the fit has; -1 where nobody knows."""
        trainer = self.trainer
        if trainer.max_steps > 0:
            steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)  # of an epoch
            by_steps = math.ceil(trainer.max_steps / max(1, steps))
            return min(by_steps, trainer.max_epochs) if (trainer.max_epochs or -1) > 0 else by_steps  # type: ignore[type-var, return-value]
        return trainer.max_epochs or -1

    def _mark(self, learning: set[str]) -> None:
        for name, parameter in self.encoder.named_parameters():
            parameter.requires_grad_(name in learning)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.wake()
        torch.manual_seed(mix_integers(run_seed(), self.current_epoch, batch_idx, self.global_rank))  # for dropout

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.trainer.world_size == 1:
            return  # what sleeps is not marked, and has no gradient
        for name, parameter in self.encoder.named_parameters():
            if name not in self.awake:
                parameter.grad = None  # neither momentum nor decay move it

    def penalty(self) -> Tensor | float:
        """L2-SP: half the squared distance of the encoder's learning weights from where they began, times `l2_sp`."""
        if not self.tuning.l2_sp or not self.awake:
            return 0.0
        start = self._start[0]
        pairs = [(p, start[n].to(p.device)) for n, p in self.encoder.named_parameters() if n in self.awake]
        return 0.5 * self.tuning.l2_sp * torch.stack([(p - s).square().sum() for p, s in pairs]).sum()

    # for subclasses

    def check_label_options(self) -> None:
        """Raise ValueError for what a tuning says of labels or of a head, where neither teaches."""
        tuning, kind = self.tuning, type(self).__name__
        if not isinstance(tuning, Frozen):
            return
        plain = type(tuning)() if not isinstance(tuning, AsIs) else Frozen()
        for name in ("solve", "l2", "unlabelled"):
            if getattr(tuning, name) != getattr(plain, name):
                raise ValueError(f"model.tuning.{name} is for a Classifier: of a {kind} leave it out")
        if isinstance(tuning, AsIs):
            raise ValueError(f"tuning AsIs is for a Classifier: of a {kind} take Frozen")

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What the first process makes, for all; a ValueError of it is raised in all."""
        made: Any = None
        if self.trainer.is_global_zero:
            try:
                made = make()
            except ValueError as error:
                made = error
        made = self.trainer.strategy.broadcast(made)
        if isinstance(made, ValueError):
            raise made
        return made

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
