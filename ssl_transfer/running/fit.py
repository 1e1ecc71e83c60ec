"""Fit, test and predict into a run's folder: the same code under the command line and under a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from ssl_transfer.downstream import Classifier
from ssl_transfer.downstream.model_folder import save_model
from ssl_transfer.encoders import save_encoder
from ssl_transfer.pretraining import Objective
from ssl_transfer.pretraining.base import run_seed
from ssl_transfer.pretraining.monitor import Monitor, Reading
from ssl_transfer.running.calm import calm
from ssl_transfer.running.config import describe
from ssl_transfer.running.divergence import DivergenceGuard, diverged, weights_are_finite
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.pace import Pace
from ssl_transfer.running.predictions import write_predictions
from ssl_transfer.running.processes import check_processes, check_shares, parting
from ssl_transfer.running.progress import ImagesProgressBar
from ssl_transfer.running.recorder import (
    RunCheckpoint,
    RunRecorder,
    callback,
    fresh_figures,
    peak_memory_bytes,
    split_figures,
)
from ssl_transfer.running.summary import draw, write_run_summary
from ssl_transfer.running.watch import Watch


@calm
def fit(
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    directory: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    seed: int = 0,
    checkpoint: RunCheckpoint | None = None,
    monitor: Monitor | None = None,
    verbose: bool = True,
    **trainer_options: Any,
) -> RunFolder:
    """Train `module` on `data` and write the run to `directory`: what `ssl-transfer fit` does.

    Args:
        module: a pretraining objective or a downstream module.
        data: an `ImageDataModule`.
        directory: the run's folder; it must not hold a run yet unless `overwrite` or `resume`.
        overwrite: replace the run that is there.
        resume: go on from its last checkpoint.
        seed: of weights, order, views and corruptions.
        checkpoint: how often to write checkpoints, and what makes one the best.
        monitor: how much is read of the encoder while it learns, and how often.
        verbose: say in a line what is about to happen.
        trainer_options: any argument of Lightning's `Trainer`, such as `max_epochs`.

    Returns the run's folder; its `metrics()` are the figures, `encoder` and `model` the saved networks.
    """
    pl.seed_everything(seed, verbose=False)
    run = RunFolder(directory)
    bounded = "max_steps" in trainer_options or "max_time" in trainer_options
    defaults = {} if bounded else default_max_epochs(module)
    if not isinstance(module, Objective):
        defaults |= {"devices": 1}  # only pretraining spreads over all devices unasked
    options: dict[str, Any] = {**trainer_defaults(), **defaults, "enable_model_summary": False, **trainer_options}
    bar = options.get("enable_progress_bar", True)
    callbacks = [*run_callbacks(checkpoint, monitor, bar), *options.pop("callbacks", [])]
    trainer = pl.Trainer(default_root_dir=run.path, callbacks=callbacks, logger=logger(run), **options)
    config = {"seed_everything": seed, "model": describe(module), "data": describe(data)}
    config["trainer"] = describe(trainer_options)
    fit_with(trainer, module, data, config=config, overwrite=overwrite, resume=resume, verbose=verbose)
    return run


@calm
def test(
    module: pl.LightningModule, data: pl.LightningDataModule, directory: str | Path, **trainer_options: Any
) -> dict[str, Any]:
    """Score the fitted run in `directory` on the test split; the figures are added to its metrics.json.

    trainer_options: arguments of Lightning's `Trainer`, such as `devices`, 1 by default.
    """
    run = RunFolder(directory)
    trainer = _bare_trainer(run, **trainer_options)
    check_shares(trainer, data, ("test",))
    checkpoint = ready(module, run.fitted_checkpoint())
    with readable(checkpoint):
        trainer.test(module, datamodule=data, ckpt_path=checkpoint, verbose=False, weights_only=True)
    with parting(trainer):
        report_figures(trainer, run, module, show=False)
    return run.metrics()


@calm
def predict(module: pl.LightningModule, data: pl.LightningDataModule, directory: str | Path) -> Path:
    """Predict every image of `data` with the fitted run in `directory`; returns the path of predictions.parquet."""
    run = RunFolder(directory)
    trainer = _bare_trainer(run)
    checkpoint = ready(module, run.fitted_checkpoint())
    with readable(checkpoint):
        outputs = trainer.predict(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return write_predictions(run, module, data, outputs or [])


def ready(module: pl.LightningModule, checkpoint: Path) -> Path:
    """Tell a module what it must know of its checkpoint before it is built; returns the checkpoint."""
    if isinstance(module, Classifier):
        with readable(checkpoint):
            module.know_classes(checkpoint)
    return checkpoint


def _bare_trainer(run: RunFolder, **given: Any) -> pl.Trainer:
    options = {**trainer_defaults(), "enable_model_summary": False, "devices": 1, **given}
    callbacks = run_callbacks(None, None, options.get("enable_progress_bar", True))
    trainer = pl.Trainer(default_root_dir=run.path, callbacks=callbacks, logger=False, **options)
    check_processes(trainer)
    return trainer


def trainer_defaults() -> dict[str, Any]:
    """Our defaults for Lightning's Trainer: mixed bfloat16 where the processor computes in it."""
    return {"precision": "bf16-mixed" if has_bfloat16() else "32-true", "num_sanity_val_steps": 0}


def default_max_epochs(module: pl.LightningModule) -> dict[str, int]:
    """A solved head needs one pass; anything else the number the user gives, 20 without one."""
    return {"max_epochs": 1 if getattr(module, "solves", False) else 20}


def has_bfloat16() -> bool:
    """Whether bfloat16 is fast here: a GPU that has it, or a CPU with AVX512-BF16 or AMX."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def run_callbacks(
    checkpoint: RunCheckpoint | None, monitor: Monitor | None, progress_bar: bool = True
) -> list[pl.Callback]:
    """The callbacks of every run."""
    bar = [ImagesProgressBar(leave=True)] if progress_bar else []
    measuring = [monitor or Monitor(), Pace(), RunRecorder()]  # in this order: the recorder collects
    return [*measuring, Watch(), DivergenceGuard(), checkpoint or RunCheckpoint(), *bar]


def logger(run: RunFolder) -> TensorBoardLogger:
    """TensorBoard's files go to `logs/` of the run."""
    return TensorBoardLogger(save_dir=run.logs, name="", version="")


def fit_with(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    data: Any,
    *,
    config: str | dict[str, Any],
    overwrite: bool = False,
    resume: bool = False,
    verbose: bool = True,
) -> None:
    """Fit with a trainer whose callbacks are `run_callbacks()`, and write the run."""
    run = RunFolder(trainer.default_root_dir)
    check_processes(trainer)
    _check_fresh(module, resume)
    data.prepare_data()
    data.setup("fit")  # before the folder is claimed: a source that cannot be read must not cost an old run
    check_shares(trainer, data, ("train", "val"))
    checkpoint = claim(trainer, run, overwrite, resume)
    try:
        if trainer.is_global_zero:
            run.write_config(_yaml(config))
        if verbose and trainer.is_global_zero:
            print(opening_line(trainer, module, data, run), flush=True)
        with readable(checkpoint):
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        if trainer.state.finished and not trainer.interrupted:
            figures = callback(trainer, RunRecorder).training_figures(trainer)  # of all processes
            with parting(trainer):
                if trainer.is_global_zero:
                    finish(trainer, run, module, data, figures)
    finally:
        if trainer.is_global_zero:
            run.settle()


def _check_fresh(module: pl.LightningModule, resume: bool) -> None:
    if hasattr(module, "encoder") and not resume:
        raise ValueError(
            f"this {type(module).__name__} has been fitted already, and would go on from its weights: make a new one"
        )


def claim(trainer: pl.Trainer, run: RunFolder, overwrite: bool, resume: bool) -> Path | None:
    """The checkpoint to go on from, if any; of several processes the first makes the folder ready."""
    if not trainer.is_global_zero:
        return run.last if resume and run.last.exists() else None
    checkpoint = run.claim(overwrite=overwrite, resume=resume)
    if resume and checkpoint is None:
        print(f"{run.last} does not exist: starting fresh")
    return checkpoint


@contextmanager
def readable(checkpoint: Path | None) -> Iterator[None]:
    """Say in a line why a checkpoint cannot be used."""
    try:
        yield
    except (UnpicklingError, RuntimeError) as error:
        if checkpoint is not None and "Error(s) in loading state_dict" in str(error):
            raise ValueError(
                f"{checkpoint} holds another network than these arguments describe: give the model and data "
                f"arguments of its fit, which stand in {checkpoint.parent.parent / 'config.yaml'}"
            ) from error
        if checkpoint is not None and (isinstance(error, UnpicklingError) or "PytorchStreamReader" in str(error)):
            raise ValueError(
                f"{checkpoint} is damaged or no checkpoint of a fit: fit again with --overwrite"
            ) from error
        raise


def opening_line(trainer: pl.Trainer, module: pl.LightningModule, data: Any, run: RunFolder) -> str:
    """What is about to happen, in a line."""
    counts = ", ".join(f"{len(data.indices(split)):,} {split}" for split in ("train", "val", "test"))
    shape = "×".join(map(str, data.shape))
    device = trainer.strategy.root_device.type
    return (
        f"{type(module).__name__} on {data.source} ({counts}; {shape}), {device} {trainer.precision}, into {run.path}"
    )


def finish(
    trainer: pl.Trainer, run: RunFolder, module: pl.LightningModule, data: Any, figures: dict[str, float]
) -> None:
    """Write what a finished fit leaves: encoder, model, figures and summary, from the chosen checkpoint."""
    checkpoint = callback(trainer, RunCheckpoint)
    chosen = run.best if run.best.exists() and checkpoint.criterion(module) is not None else run.last
    if not chosen.exists():
        raise ValueError("nothing was trained: trainer.max_epochs and trainer.limit_train_batches must be above 0")
    if chosen == run.best:
        state = torch.load(chosen, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)
    if not weights_are_finite(module):
        raise diverged(trainer, module)
    recorder = callback(trainer, RunRecorder)
    if chosen == run.best:  # the figures of the network that is kept
        figures = {**_without_validation(fresh_figures(trainer)), **figures, **checkpoint.best_figures}
    else:
        figures = fresh_figures(trainer) | figures
    reading = read_kept(trainer, module)
    if reading is not None:
        figures |= reading.figures
        callback(trainer, Watch).judge_kept(trainer, reading.figures)
    run.record(
        {
            **{name: round(value, 6) for name, value in figures.items()},
            "seed": run_seed(),
            "wall_seconds": round(recorder.seconds(), 2),
            "images_seen": recorder.images_seen,
            "peak_memory_bytes": peak_memory_bytes(),
            "checkpoint": chosen.relative_to(run.path).as_posix(),
            **_checkpoints(run, module, checkpoint),
            "diagnostics_share": round(diagnostics_share(trainer), 4),
            "warnings": list(callback(trainer, Watch).warnings.values()),
            "rejected_images": [f"{path}: {reason}" for path, reason in data.rejected],
        },
        forget="test/",
    )
    figures = {k: v for k, v in run.metrics().items() if isinstance(v, int | float)}
    module.cpu()
    told = {"data": data.describe(), "metrics": figures}
    if isinstance(module, Objective) or (isinstance(module, Classifier) and module.tuning.trains_encoder):
        training = {"epochs": trainer.current_epoch, "batch_size": data.batch_size, **asdict(module.optimisation)}
        save_encoder(module.encoder, run.encoder, objective=type(module).__name__, training=training, **told)
    if isinstance(module, Classifier):
        save_model(module, run.model, **told)
    write_run_summary(run, module, data, draw(module, data, reading))


def read_kept(trainer: pl.Trainer, module: pl.LightningModule) -> Reading | None:
    """The monitor's reading of an objective's encoder as it is now, where it was trained; `None` of other modules."""
    if not isinstance(module, Objective):
        return None
    module.to(trainer.strategy.root_device)
    return callback(trainer, Monitor).read(trainer, module)


def _without_validation(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if not name.startswith("val/")}


def _checkpoints(run: RunFolder, module: pl.LightningModule, checkpoint: RunCheckpoint) -> dict[str, Any]:
    """What metrics.json says of the last checkpoint and of the best."""
    told: dict[str, Any] = {"checkpoint_last": run.last.relative_to(run.path).as_posix()}
    if run.best.exists() and checkpoint.criterion(module) is not None:
        told["checkpoint_best"] = run.best.relative_to(run.path).as_posix()
        told |= {"best_by": checkpoint.criterion(module), "best_epoch": checkpoint.best_epoch}
    return told


def diagnostics_share(trainer: pl.Trainer) -> float:
    """The share of the fit's time that went into reading the encoder and drawing it."""
    spent = callback(trainer, Monitor).seconds + callback(trainer, Watch).seconds
    return spent / callback(trainer, RunRecorder).seconds()


def record_figures(trainer: pl.Trainer, run: RunFolder) -> None:
    """Add the trainer's last logged figures to metrics.json; each name carries its split."""
    run.record({name: round(value, 6) for name, value in split_figures(trainer).items()})


def report_figures(
    trainer: pl.Trainer, run: RunFolder, module: pl.LightningModule, show: bool = True, record: bool = True
) -> None:
    """After a test or validation: figures into metrics.json and summary.html, and onto the screen.

    record: false for another checkpoint than the one that metrics.json speaks of.
    """
    if not trainer.is_global_zero:
        return
    if record:
        record_figures(trainer, run)
        data = trainer.datamodule  # type: ignore[attr-defined]
        write_run_summary(run, module, data, draw(module, data, read_kept(trainer, module)))
    if show:
        for name, value in sorted(trainer.callback_metrics.items()):
            print(f"{name:28}{float(value):.4f}")


def _yaml(config: str | dict[str, Any]) -> str:
    if isinstance(config, str):
        return config
    import yaml

    text: str = yaml.safe_dump(config, sort_keys=False)
    return text
