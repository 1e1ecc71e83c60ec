"""summary.html of a run, drawn from metrics.json, the curves and the module."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
import torch

from ssl_transfer.data.batch import Batch
from ssl_transfer.pretraining import Autoencoder, DenoisingAutoencoder, SimCLR
from ssl_transfer.reporting import image_grid, write_summary
from ssl_transfer.running.folder import RunFolder

Curves = dict[str, list[tuple[float, float]]]


def write_run_summary(run: RunFolder, module: Any, data: Any) -> None:
    """Write `summary.html`, one file that needs no network: figures, curves, pictures, confusion, configuration."""
    metrics = run.metrics()
    rejected = metrics.pop("rejected_images", [])
    confusion = getattr(module, "confusion", None)
    write_summary(
        run.summary,
        f"{type(module).__name__} on {data.source}",
        metrics,
        config_yaml=run.config.read_text(encoding="utf-8") if run.config.exists() else "",
        curves={name: curve for name, curve in read_curves(run).items() if len(curve) > 1},
        pictures=pictures(module, data),
        warnings=[f"Left out, as it cannot be read: {entry}" for entry in rejected],
        confusion=None if confusion is None else (confusion.numpy(), module.classes),
        subtitle=f"The run in {run.path}",
    )


def read_curves(run: RunFolder) -> Curves:
    """The curves of `logs/metrics.csv`: name to (epoch, value) pairs."""
    path = run.logs / "metrics.csv"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name not in ("epoch", "seconds")]
    return {n: [(float(row["epoch"]), float(row[n])) for row in rows if row.get(n)] for n in names}


@torch.inference_mode()
def pictures(module: Any, data: Any, count: int = 10) -> list[tuple[str, str]]:
    """What an objective makes of a few validation images (training images without a validation split)."""
    split = next(split for split in ("val", "train", "all") if len(data.indices(split)))
    batch = next(iter(data.loader(split, limit=count)))
    batch = Batch(batch.images[:count].to(module.device), batch.targets[:count], batch.index[:count].to(module.device))
    was_training = module.training
    rows = _rows(module.eval(), batch)
    module.train(was_training)
    return [(heading, image_grid(images, what="images")) for heading, images in rows.items()]


def _rows(module: Any, batch: Batch) -> dict[str, dict[str, np.ndarray]]:
    if isinstance(module, SimCLR):
        first, second = module.two_views(batch, epoch=0)
        return {"Views": {"Image": _shown(batch.images), "View 1": _shown(first), "View 2": _shown(second)}}
    if isinstance(module, DenoisingAutoencoder):
        damaged = module.corrupt(batch, epoch=0)
        images = {"Image": batch.images, "Damaged": damaged, "Restored": module.reconstruct(damaged)}
        return {"Restoration": {name: _shown(values) for name, values in images.items()}}
    if isinstance(module, Autoencoder):
        images = {"Image": batch.images, "Reconstruction": module.reconstruct(batch.images)}
        return {"Reconstruction": {name: _shown(values) for name, values in images.items()}}
    return {}


def _shown(images: torch.Tensor) -> np.ndarray:
    shown: np.ndarray = (images if images.dtype == torch.uint8 else images.float().clamp(0, 1)).cpu().numpy()
    return shown
