"""The callbacks of a run: checkpoints that can be gone on from, and the record of what it cost and reached."""

from __future__ import annotations

import csv
import math
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from ssl_transfer.pretraining.monitor import Monitor
from ssl_transfer.running.divergence import diverged, weights_are_finite
from ssl_transfer.running.folder import RunFolder

C = TypeVar("C", bound=pl.Callback)

STEPS_TO_AGREE = 20  # between one look at the clock and the next


class RunCheckpoint(Checkpoint):
    """Keeps `last.ckpt` (each epoch, and in between) and `best.ckpt`, from which encoder and model are written.

    Args:
        every_n_steps: write `last.ckpt` every so many steps.
        every_minutes: and whenever so many minutes have passed.
        best_by: the figure on the validation split that decides which epoch is the best, e.g. `val/loss`,
            `val/rankme` or `val/knn_accuracy` (which reads labels); `last` keeps no best. By default `val/loss`
            in pretraining, `val/accuracy` of a classifier, and what `select_by` names of a domain adapter.
    """

    LOWER_IS_BETTER = ("loss", "error", "alignment", "uniformity", "risk", "entropy", "/dev")

    def __init__(
        self, every_n_steps: int | None = None, every_minutes: float = 5.0, best_by: str | None = None
    ) -> None:
        if best_by not in (None, "last") and not best_by.startswith("val/"):
            raise ValueError(
                f"checkpoint.best_by must be a figure on the validation split, such as val/loss, or last, not {best_by}"
            )
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"checkpoint.every_n_steps must be at least 1, not {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.every_minutes = every_minutes
        self.best_by = best_by
        self.chosen_by: str | None = None  # the criterion of the best so far
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        self.best_figures: dict[str, float] = {}
        self.written = time.monotonic()
        self._loader_state: dict[str, int] | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check_choice(trainer, pl_module)
        self.written = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Gradients in the middle of their accumulation are not in a checkpoint, and the end of the epoch, with its
        # validation, is still to come after the last batch: going on from either would not be the same run.
        if trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        due_by_step = self.every_n_steps is not None and (trainer.global_step % self.every_n_steps == 0)
        if due_by_step or self._due_by_time(trainer):
            self._save_last(trainer)

    def _due_by_time(self, trainer: pl.Trainer) -> bool:
        """The clocks of several processes differ, and they save together: so they agree, every few steps."""
        due = time.monotonic() - self.written > 60 * self.every_minutes
        if trainer.world_size > 1 and trainer.global_step % STEPS_TO_AGREE:
            return False
        return trainer.strategy.reduce_boolean_decision(due, all=False)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        name = self.criterion(pl_module)
        if trainer.sanity_checking or trainer.state.fn != "fit" or name is None:
            return
        if self.chosen_by != name:  # gone on with, by another criterion
            self.chosen_by, self.best_value = name, None
        figures = fresh_figures(trainer)
        if name not in figures:
            if self.best_by is not None and self.best_value is None:  # every figure is measured at first
                known = ", ".join(sorted(figure for figure in figures if figure.startswith("val/")))
                raise ValueError(f"checkpoint.best_by {name} is not measured in this fit; known are {known}")
            return
        value = figures[name]
        sign = -1 if name.endswith(self.LOWER_IS_BETTER) else 1
        better = self.best_value is None or not math.isfinite(self.best_value) or sign * value > sign * self.best_value
        if trainer.strategy.broadcast(better):
            self.best_value, self.best_epoch = value, trainer.current_epoch + 1
            self.best_figures = {k: v for k, v in figures.items() if k.startswith("val/")}
            self._save(trainer, _folder(trainer).best)

    def criterion(self, module: pl.LightningModule) -> str | None:
        """The figure that decides which epoch is the best; `None`: the last one counts."""
        own: str | None = getattr(module, "selects_by", None)
        if self.best_by is None or own is None:
            return own
        return None if self.best_by == "last" else self.best_by

    def _check_choice(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.best_by in (None, "last"):
            return
        if getattr(module, "selects_by", None) is None:
            raise ValueError(
                f"checkpoint.best_by {self.best_by}: nothing is chosen where a head is solved or data.label_budget "
                "counts validation labels too; leave it out"
            )
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not len(data.indices("val")) or trainer.limit_val_batches == 0:
            raise ValueError(
                f"checkpoint.best_by {self.best_by} needs a validation split, and there is none: "
                "set data.val_fraction above 0, or leave it out"
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save_last(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        self._save(trainer, _folder(trainer).last)
        self.written = time.monotonic()

    def _save(self, trainer: pl.Trainer, path: Path) -> None:
        """A good checkpoint is never replaced by one of a network that has diverged."""
        assert trainer.lightning_module is not None
        if not weights_are_finite(trainer.lightning_module):
            raise diverged(trainer, trainer.lightning_module)
        _save_whole(trainer, path)

    # The place in the epoch. Lightning keeps it too, but does not give it back to a loader that was made before the
    # checkpoint was read, as it is wherever a schedule needs the number of steps.

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.train_dataloader is not None:
            checkpoint["train_loader"] = trainer.train_dataloader.state_dict()
        checkpoint["images"] = getattr(getattr(trainer, "datamodule", None), "fingerprint", None)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._loader_state = checkpoint.get("train_loader")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._loader_state is not None and trainer.train_dataloader is not None:
            trainer.train_dataloader.load_state_dict(self._loader_state)
        self._loader_state = None

    def state_dict(self) -> dict[str, Any]:
        best = {"best_value": self.best_value, "best_epoch": self.best_epoch, "best_figures": self.best_figures}
        return {"chosen_by": self.chosen_by, **best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.chosen_by = state_dict.get("chosen_by")  # absent from older checkpoints, as is the epoch
        self.best_value = state_dict["best_value"]
        self.best_epoch = state_dict.get("best_epoch")
        self.best_figures = state_dict["best_figures"]


class RunRecorder(pl.Callback):
    """Counts images and seconds over all the sittings of a run, and keeps its curves."""

    def __init__(self) -> None:
        self.images_seen = 0
        self.seconds_before = 0.0
        self.started = time.monotonic()
        self.history: list[dict[str, float]] = []
        self.sums: dict[str, torch.Tensor] = {}  # of the epoch's training figures over its images
        self.count = 0

    def seconds(self) -> float:
        """Wall-clock seconds of fitting so far."""
        return self.seconds_before + time.monotonic() - self.started

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.monotonic()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images_seen += len(batch.index) * trainer.world_size
        if not isinstance(outputs, Mapping):
            return
        count = outputs.get("count", len(batch.index))
        self.count += count
        for name, value in outputs.items():
            if name != "count":
                # Lightning has divided the loss by the batches whose gradients it accumulates.
                scale = trainer.accumulate_grad_batches if name == "loss" and pl_module.automatic_optimization else 1
                self.sums[name] = self.sums.get(name, 0) + scale * count * value.detach().float()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.sums, self.count = {}, 0  # an epoch gone on with does not start, and keeps what it had

    def training_figures(self, trainer: pl.Trainer) -> dict[str, float]:
        """Means over the last epoch, of all its sittings and processes; Lightning forgets the earlier sittings."""
        if not self.sums:
            return {}
        of_all = [_sum(trainer, value) for value in (torch.tensor(self.count), *self.sums.values())]
        return {f"train/{name}": total / max(1, of_all[0]) for name, total in zip(self.sums, of_all[1:], strict=True)}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        figures = {**fresh_figures(trainer), **self.training_figures(trainer)}
        self.history.append({"epoch": float(trainer.current_epoch + 1), "seconds": self.seconds(), **figures})
        if trainer.is_global_zero:
            _write_csv(_folder(trainer).logs / "metrics.csv", self.history)

    def figures_of(self, epoch: int | None) -> dict[str, float]:
        """The figures of an epoch, counted from 1; none where it is not known."""
        return next((row for row in self.history if row["epoch"] == epoch), {})

    def state_dict(self) -> dict[str, Any]:
        return {
            "images_seen": self.images_seen,
            "seconds": self.seconds(),
            "history": self.history,
            "sums": self.sums,
            "count": self.count,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.images_seen = state_dict["images_seen"]
        self.seconds_before = state_dict["seconds"]
        self.history = state_dict["history"]
        self.sums, self.count = state_dict["sums"], state_dict["count"]


def callback(trainer: pl.Trainer, kind: type[C]) -> C:
    """The run's callback of a kind."""
    return next(c for c in trainer.callbacks if isinstance(c, kind))  # type: ignore[attr-defined]


def fresh_figures(trainer: pl.Trainer) -> dict[str, float]:
    """The figures that were logged this epoch: Lightning keeps what an earlier one measured and this one may not."""
    monitor = callback(trainer, Monitor)
    stale = set() if monitor.epoch == trainer.current_epoch else monitor.names
    return {name: value for name, value in split_figures(trainer).items() if name not in stale}


def split_figures(trainer: pl.Trainer) -> dict[str, float]:
    """The trainer's last logged figures whose names carry their split."""
    return {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}


def _sum(trainer: pl.Trainer, value: torch.Tensor) -> float:
    """The sum over the processes; the value stays as it is."""
    here = value.clone().to(trainer.strategy.root_device)
    return float(trainer.strategy.reduce(here, reduce_op="sum"))


def _save_whole(trainer: pl.Trainer, path: Path) -> None:
    """A checkpoint that appears whole or not at all, whenever the process dies."""
    temporary = path.with_name(f".{path.name}.new")
    trainer.save_checkpoint(temporary)
    if trainer.is_global_zero:
        temporary.replace(path)


def peak_memory_bytes() -> int:
    """The most memory held so far: of the GPU where one is used, else of this process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _folder(trainer: pl.Trainer) -> RunFolder:
    return RunFolder(trainer.default_root_dir)


def _write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
