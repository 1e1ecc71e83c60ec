"""What a user sees while a fit runs: warnings in plain words, and pictures in TensorBoard and in summary.html."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from ssl_transfer.downstream.domain_adapter import DomainAdapter
from ssl_transfer.optimisation import total_steps
from ssl_transfer.pretraining import Objective
from ssl_transfer.pretraining.alarms import alarms
from ssl_transfer.pretraining.monitor import Monitor
from ssl_transfer.reporting.pictures import Picture
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.pace import Pace
from ssl_transfer.running.recorder import RunRecorder, callback
from ssl_transfer.running.summary import draw, write_run_summary


class Watch(pl.Callback):
    """Warns as soon as an epoch's figures give reason to, and draws what the network sees and makes of it.

    Args:
        every_seconds: pictures and `summary.html` are drawn after an epoch, at most so often.
    """

    def __init__(self, every_seconds: float = 30.0) -> None:
        self.every_seconds = every_seconds
        self.seconds = 0.0  # spent here
        self.warnings: dict[str, str] = {}
        self.drawn = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        started = time.perf_counter()
        if isinstance(pl_module, Objective):
            self.warn(trainer, pl_module)
        elif isinstance(pl_module, DomainAdapter):
            history = callback(trainer, RunRecorder).history
            self._say(trainer, pl_module.alarms(history[-1]), f"epoch {trainer.current_epoch + 1}")
        if started - self.drawn > self.every_seconds:
            self.draw(trainer, pl_module)
        self.seconds += time.perf_counter() - started

    def warn(self, trainer: pl.Trainer, module: Objective) -> None:
        """Say each warning once a run, where the user looks."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        figures = callback(trainer, RunRecorder).history[-1]
        progress = trainer.global_step / total_steps(trainer)
        told = {"loss": figures["train/loss"], "steps": trainer.global_step, "progress": progress}
        told["seconds_waited"] = callback(trainer, Pace).seconds_waited
        chance = module.chance_loss(min(data.batch_size * trainer.world_size, len(data.indices("train"))))
        if chance is not None:
            told["chance_loss"] = chance
        if self._judge(trainer, {**figures, **told}, f"epoch {trainer.current_epoch + 1}"):
            self.drawn = float("-inf")  # show it at once

    def judge_kept(self, trainer: pl.Trainer, figures: Mapping[str, float]) -> None:
        """Say what is wrong with the network that is kept, unless it was said while it learned."""
        self._judge(trainer, {**figures, "progress": 1.0}, "the encoder that is kept")

    def judge_adapted(self, trainer: pl.Trainer, module: DomainAdapter, figures: Mapping[str, float]) -> None:
        """Say what is wrong with the adapted network that is kept, from the figures of its epoch."""
        self._say(trainer, module.alarms(figures, kept=True), "the network that is kept")

    def _judge(self, trainer: pl.Trainer, figures: Mapping[str, float], where: str) -> bool:
        reading = callback(trainer, Monitor).latest
        named = {name.split("/")[-1]: value for name, value in figures.items() if name != "val/loss"}
        if reading is not None:
            named["queries"] = len(reading.features.features)
        return self._say(trainer, alarms(named), where)

    def _say(self, trainer: pl.Trainer, texts: Mapping[str, str], where: str) -> bool:
        """Say what has not been said in this run; whether there was any."""
        found = {name: text for name, text in texts.items() if name not in self.warnings}
        for name, text in found.items():
            self.warnings[name] = f"{where[0].upper()}{where[1:]}: {text}"
            trainer.print(f"warning, {where}: {text}")
            if isinstance(trainer.logger, TensorBoardLogger) and trainer.training:
                trainer.logger.experiment.add_text("warnings", text, trainer.global_step)
        return bool(found)

    def draw(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Pictures of the network as it is, into TensorBoard and into the run's page."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        pictures = draw(module, data, callback(trainer, Monitor).latest)
        self.to_tensorboard(trainer, pictures)
        epoch = callback(trainer, RunRecorder).history[-1]
        write_run_summary(
            RunFolder(trainer.default_root_dir),
            module,
            data,
            pictures,
            metrics={name: value for name, value in epoch.items() if name != "seconds"},
            warnings=list(self.warnings.values()),
            subtitle=f"In progress: epoch {trainer.current_epoch + 1} of {trainer.max_epochs or '?'} is done",
        )
        self.drawn = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:  # the page is written when the run is finished
            started = time.perf_counter()
            self.to_tensorboard(trainer, draw(pl_module, trainer.datamodule, callback(trainer, Monitor).latest))  # type: ignore[attr-defined]
            self.seconds += time.perf_counter() - started

    @staticmethod
    def to_tensorboard(trainer: pl.Trainer, pictures: list[Picture]) -> None:
        """Pictures as images of TensorBoard."""
        if isinstance(trainer.logger, TensorBoardLogger):
            for picture in pictures:
                pixels = picture.pixels()  # (H, W, 3)
                trainer.logger.experiment.add_image(picture.heading, pixels, trainer.global_step, dataformats="HWC")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, ValueError) or not trainer.is_global_zero or trainer.state.fn != "fit":
            return  # a test that fails leaves the page of the fit as it is
        self.warnings["stopped"] = f"The fit was stopped: {exception}"
        if callback(trainer, RunRecorder).history:
            self.draw(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"warnings": dict(self.warnings), "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.warnings, self.seconds = dict(state_dict["warnings"]), state_dict["seconds"]
