"""What a finished fit, test or prediction leaves in the run's folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from ssl_transfer.downstream import AnomalyDetector, Clusterer, DomainAdapter, Downstream
from ssl_transfer.downstream.base import read_checkpoint
from ssl_transfer.downstream.model_folder import save_model
from ssl_transfer.encoders import save_encoder
from ssl_transfer.encoders.reconstruction import savable_decoder
from ssl_transfer.pretraining import Objective
from ssl_transfer.pretraining.base import run_seed
from ssl_transfer.pretraining.monitor import Monitor, Reading
from ssl_transfer.running.clusters import write_clusters
from ssl_transfer.running.divergence import diverged, weights_are_finite
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.gallery import found, write_gallery
from ssl_transfer.running.predictions import write_predictions
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


def finish(
    trainer: pl.Trainer, run: RunFolder, module: pl.LightningModule, data: Any, figures: dict[str, float]
) -> None:
    """Write what a finished fit leaves: encoder, model, figures and summary, from the chosen checkpoint."""
    checkpoint = callback(trainer, RunCheckpoint)
    chosen = run.best if run.best.exists() and checkpoint.criterion(module) is not None else run.last
    if not chosen.exists():
        raise ValueError("nothing was trained: trainer.max_epochs and trainer.limit_train_batches must be above 0")
    if chosen == run.best:
        state = read_checkpoint(chosen)
        module.load_state_dict(state["state_dict"])
        module.on_load_checkpoint(state)
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
    if isinstance(module, DomainAdapter):
        of_epoch = recorder.figures_of(checkpoint.best_epoch) if chosen == run.best else {}
        callback(trainer, Watch).judge_adapted(trainer, module, figures | of_epoch)
        verdict = module.verdict(figures | of_epoch)
        run.record({"remarks": module.notes, "verdict": verdict or None})
        if verdict:
            trainer.print(f"verdict: {verdict}")
    run.record(
        {
            **{name: float(f"{value:.7g}") for name, value in figures.items()},
            "seed": run_seed(),
            "wall_seconds": round(recorder.seconds(), 2),
            "images_seen": recorder.images_seen,
            "peak_memory_bytes": peak_memory_bytes(),
            "checkpoint": chosen.relative_to(run.path).as_posix(),
            **_checkpoints(run, module, checkpoint),
            "diagnostics_share": round(diagnostics_share(trainer), 4),
            "warnings": [*callback(trainer, Watch).warnings.values(), *getattr(module, "remarks", [])],
            "rejected_images": [f"{path}: {reason}" for path, reason in data.rejected],
        },
        forget="test/",
    )
    figures = {k: v for k, v in run.metrics().items() if isinstance(v, int | float)}
    module.cpu()
    told = {"data": data.describe(), "metrics": figures}
    if isinstance(module, Objective) or (isinstance(module, Downstream) and module.changes_encoder):
        training = {"epochs": trainer.current_epoch, "batch_size": data.batch_size, **asdict(module.optimisation)}
        name, decoder = type(module).__name__, savable_decoder(module)
        encoder = module.kept_encoder if isinstance(module, Downstream) else module.encoder
        save_encoder(encoder, run.encoder, objective=name, training=training, decoder=decoder, **told)
    if isinstance(module, Downstream):
        save_model(module.fitted(**told), run.model)
    if isinstance(module, Clusterer):
        write_clusters(run, module, data, figures)
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
    run.record({name: float(f"{value:.7g}") for name, value in split_figures(trainer).items()})


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
        if isinstance(module, AnomalyDetector) and trainer.state.fn == "test":
            for path in write_gallery(run, module, data, module.found, run.metrics()):
                if show:
                    print(f"wrote {path}")
    if show:
        width = max(map(len, trainer.callback_metrics), default=0) + 2
        for name, value in sorted(trainer.callback_metrics.items()):
            print(f"{name:{width}}{float(value):.4f}")


def write_outputs(run: RunFolder, module: pl.LightningModule, data: Any, outputs: list[Any]) -> list[Path]:
    """Write what `Trainer.predict` gave: predictions.parquet first, then what there is to look at."""
    written = [write_predictions(run, module, data, outputs)]
    if isinstance(module, AnomalyDetector):
        written += write_gallery(run, module, data, found(module, data, outputs))
    return written
