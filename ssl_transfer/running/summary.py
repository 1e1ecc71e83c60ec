"""summary.html of a run, drawn from metrics.json, the curves and the module."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import svds

from ssl_transfer.data.batch import Batch
from ssl_transfer.downstream import DomainAdapter, Reducer
from ssl_transfer.pretraining import Autoencoder, DenoisingAutoencoder, RotationPrediction, SimCLR
from ssl_transfer.pretraining.monitor import Reading
from ssl_transfer.pretraining.rotation import quarter_turns
from ssl_transfer.reporting import Panel, write_summary
from ssl_transfer.reporting.pictures import FeatureMap, ImageRows, Picture
from ssl_transfer.running.folder import RunFolder

Curves = dict[str, list[tuple[float, float]]]
Metrics = dict[str, Any]
MOST_POINTS = 500
NAMES = {"val": "validation", "train": "training"}


def write_run_summary(
    run: RunFolder,
    module: Any,
    data: Any,
    pictures: Sequence[Picture],
    metrics: Metrics | None = None,
    warnings: Sequence[str] = (),
    subtitle: str = "",
) -> None:
    """Write `summary.html`, one file that needs no network: figures, curves, pictures, confusion, configuration.

    metrics and warnings: those of a run in progress; by default what `metrics.json` tells.
    """
    metrics = run.metrics() if metrics is None else dict(metrics)
    rejected = metrics.pop("rejected_images", [])
    told = [*metrics.pop("warnings", []), *warnings]
    lead = [*filter(None, [metrics.pop("verdict", "")]), *metrics.pop("remarks", [])]
    adapted = {"val": "source", "test": "target"} if isinstance(module, DomainAdapter) else {}
    sources = f"from {data.source} to {data.target}" if adapted and hasattr(data, "target") else f"on {data.source}"
    confusion = getattr(module, "confusion", None)
    write_summary(
        run.summary,
        f"{type(module).__name__} {sources}",
        metrics,
        config_yaml=run.config.read_text(encoding="utf-8") if run.config.exists() else "",
        curves={name: curve for name, curve in read_curves(run).items() if len(curve) > 1},
        pictures=[(picture.heading, picture.html()) for picture in pictures],
        warnings=[*told, *(f"Left out, as it cannot be read: {entry}" for entry in rejected)],
        confusion=None if confusion is None else (confusion.numpy(), module.classes),
        subtitle=f"{subtitle or 'The run'} in {run.path}",
        lead=[f"{text[0].upper()}{text[1:]}." for text in lead],
        domains=adapted,
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
def draw(module: Any, data: Any, reading: Reading | None = None, count: int = 10) -> list[Picture]:
    """What an objective makes of a few validation images (training images without a validation split).

    reading: whose images are to be drawn as a map of their features.
    """
    split = next(split for split in ("val", "train", "all") if len(data.indices(split)))
    batch = next(iter(data.loader(split, limit=count, everywhere=True)))
    batch = Batch(batch.images[:count].to(module.device), batch.targets[:count], batch.index[:count].to(module.device))
    was_training = module.training
    rows = _rows(module.eval(), batch)
    pictures: list[Picture] = [ImageRows(heading, images) for heading, images in rows.items()]
    if isinstance(module, Reducer) and module.method.n_components == 2:
        pictures.append(reducer_map(module, data, split))
    module.train(was_training)
    return pictures if reading is None else [*pictures, feature_map(reading, data.classes)]


def feature_map(reading: Reading, names: list[str] | None) -> FeatureMap:
    """At most five hundred images by the two main directions of their L2-normalised features."""
    features = reading.features
    step = -(-len(features.features) // MOST_POINTS)
    z = F.normalize(features.features[::step].cpu().double(), dim=1)
    points, share = two_directions((z - z.mean(0)).numpy())
    classes = names if features.targets.ndim == 1 and not features.targets.is_floating_point() else None
    labels = features.targets[::step].cpu().numpy() if classes else np.full(len(z), -1)
    return FeatureMap(
        "Features in two dimensions",
        Panel("Principal components", points, f"{share:.0%} of the variance"),
        labels,
        list(classes or []),
        reading.thumbnails[::step].numpy(),
        caption="Images by the two main directions of their normalised features; labels only colour.",
    )


def reducer_map(module: Reducer, data: Any, split: str) -> FeatureMap:
    """At most five hundred images of a split where the reducer places them."""
    batches = list(data.loader(split, limit=MOST_POINTS, everywhere=True))
    images, targets = torch.cat([batch.images for batch in batches]), torch.cat([batch.targets for batch in batches])
    places = torch.cat([module(batch.images.to(module.device)).cpu() for batch in batches]).numpy()
    classes = data.classes if targets.ndim == 1 and not targets.is_floating_point() else None
    return FeatureMap(
        f"The map, {NAMES.get(split, split)} images",
        Panel(type(module.method).__name__, places),
        targets.numpy() if classes else np.full(len(places), -1),
        list(classes or []),
        images.numpy(),
        caption="Images where the reducer places them; labels only colour. ssl-transfer explore shows all.",
    )


def two_directions(z: np.ndarray) -> tuple[np.ndarray, float]:
    """Centred rows `(N, D)` along the two directions of most variance, `(N, 2)`, and the share of it that they hold."""
    if not z.any():
        return np.zeros((len(z), 2)), 0.0
    if min(z.shape) > 10:
        start = np.random.default_rng(0).normal(size=min(z.shape))  # the same every time
        left, values, axes = svds(z, k=2, v0=start)  # smallest first
        left, values, axes = left[:, ::-1], values[::-1], axes[::-1]
    else:
        left, values, axes = np.linalg.svd(z, full_matrices=False)
        left, values, axes = left[:, :2], values[:2], axes[:2]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])
    points = left * values * signs
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1]))), float((values**2).sum() / (z**2).sum())


def _rows(module: Any, batch: Batch) -> dict[str, dict[str, np.ndarray]]:
    if isinstance(module, RotationPrediction):
        turned = quarter_turns(module.views(batch.images, module.random(batch, epoch=0, stream=1))).chunk(4)
        return {"Rotations": {f"{90 * k}°": _shown(images) for k, images in enumerate(turned)}}
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
