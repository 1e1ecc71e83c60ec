"""The progress bar: batches, images a second, and the time left of the whole fit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from rich.progress import ProgressColumn, Task
from rich.text import Text


class ImagesColumn(ProgressColumn):
    """Images per second, and the time that all remaining epochs will take at this speed."""

    def __init__(self, trainer: pl.Trainer) -> None:
        self.trainer = trainer
        super().__init__()

    def render(self, task: Task) -> Text:
        data = getattr(self.trainer, "datamodule", None)
        if not task.speed or data is None:
            return Text("")
        text = f"{task.speed * data.batch_size * self.trainer.world_size:,.0f} images/s"
        epochs = self.trainer.max_epochs
        if self.trainer.training and task.total and epochs and epochs > 0:
            batches = (epochs - self.trainer.current_epoch) * task.total - task.completed
            text += f" · {timedelta(seconds=round(max(0, batches) / task.speed))} left"
        return Text(text)


class ImagesProgressBar(RichProgressBar):
    """Lightning's rich progress bar with images a second in place of iterations."""

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        columns: list[Any] = super().configure_columns(trainer)
        return [*columns[:-1], ImagesColumn(trainer)]
