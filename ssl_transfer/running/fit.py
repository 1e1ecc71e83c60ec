"""Fit, test and predict into a run's folder: the same code under the command line and under a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from ssl_transfer.downstream import DomainAdapter, Downstream
from ssl_transfer.downstream.base import read_checkpoint
from ssl_transfer.encoders.build import is_folder_name
from ssl_transfer.encoders.config import read_config
from ssl_transfer.pretraining import Objective
from ssl_transfer.pretraining.monitor import Monitor
from ssl_transfer.running.calm import calm
from ssl_transfer.running.config import describe
from ssl_transfer.running.divergence import DivergenceGuard
from ssl_transfer.running.finish import finish, report_figures, write_outputs
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.pace import Pace
from ssl_transfer.running.processes import check_processes, check_shares, check_split, parting
from ssl_transfer.running.progress import ImagesProgressBar
from ssl_transfer.running.recorder import RunCheckpoint, RunRecorder, callback
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
    for name, given in (("checkpoint", checkpoint), ("monitor", monitor)):
        if given is not None:
            config[name] = describe(given)["init_args"]
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
    check_split(data, "test")
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
    return write_outputs(run, module, data, outputs or [])[0]


def ready(module: pl.LightningModule, checkpoint: Path) -> Path:
    """Tell a module what it must know of its checkpoint before it is built; returns the checkpoint."""
    if isinstance(module, Downstream):
        with readable(checkpoint):
            module.learn_from(read_checkpoint(checkpoint), checkpoint)
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
    check_before(module, data)
    data.prepare_data()
    data.setup("fit")  # before the folder is claimed: a source that cannot be read must not cost an old run
    if isinstance(module, DomainAdapter):
        module.check_ready(data)
    if resume and run.last.exists():
        check_images(run.last, data)
    check_shares(trainer, data, ("train", "val"))
    one_pass(trainer, module)
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
                    if verbose:
                        print(closing_line(run))
    finally:
        if trainer.is_global_zero:
            run.settle()


def _check_fresh(module: pl.LightningModule, resume: bool) -> None:
    if hasattr(module, "encoder") and not resume:
        raise ValueError(
            f"this {type(module).__name__} has been fitted already, and would go on from its weights: make a new one"
        )


def check_before(module: pl.LightningModule, data: Any) -> None:
    """ValueError for paths that do not exist and pairs that do not go together, before an image is read."""
    encoder = getattr(module, "chosen_encoder", [None])[0]
    if isinstance(encoder, str) and is_folder_name(encoder):
        read_config(Path(encoder).expanduser())
    if isinstance(module, DomainAdapter):
        module.check_before(data)


def check_images(checkpoint: Path, data: Any) -> None:
    """ValueError where a run would go on with other images, or another split of them, than it began with."""
    with readable(checkpoint):
        began_with = read_checkpoint(checkpoint).get("images")
    if began_with not in (None, data.fingerprint):
        raise ValueError(
            f"{checkpoint} is of a fit on other images, or on another split or size of them: give the data arguments "
            f"of that fit, which stand in {checkpoint.parent.parent / 'config.yaml'}, or begin a run in another "
            "--trainer.default_root_dir"
        )


def one_pass(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """A head that is solved learns nothing in a second epoch."""
    asked = trainer.max_epochs or 1
    if isinstance(module, DomainAdapter) and module.solves and asked > 1:
        trainer.print(f"note: a head that is solved takes one epoch, not trainer.max_epochs {asked}")
        trainer.fit_loop.max_epochs = 1


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
    source = f"{data.source} and {data.target}" if hasattr(data, "is_target") else data.source
    return f"{type(module).__name__} on {source} ({counts}; {shape}), {device} {trainer.precision}, into {run.path}"


def closing_line(run: RunFolder) -> str:
    """What a fit has left to use and to look at."""
    left = [path for path in (run.encoder, run.model, run.clusters, run.summary) if path.exists()]
    return f"wrote {run.path}: {', '.join(path.name for path in left)}"


def _yaml(config: str | dict[str, Any]) -> str:
    if isinstance(config, str):
        return config
    import yaml

    text: str = yaml.safe_dump(config, sort_keys=False)
    return text
