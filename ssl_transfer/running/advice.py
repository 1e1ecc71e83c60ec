"""Minutes of measurement within the labelled training images, from which to advise on a tuning strategy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ssl_transfer.data.splits import straddle_keys
from ssl_transfer.data.views import Views
from ssl_transfer.encoders import Encoder, load_encoder
from ssl_transfer.evaluation.cross_validation import (
    Probe,
    curve_budgets,
    held_out_right,
    knn_probe,
    learning_curve,
    linear_probe,
)
from ssl_transfer.evaluation.domain_distance import frechet_distance, proxy_a_distance
from ssl_transfer.evaluation.features import encode, pixel_features
from ssl_transfer.evaluation.floors import random_encoder
from ssl_transfer.evaluation.folds import stratified_folds
from ssl_transfer.evaluation.measurements import DISTANCE, Estimate, Measurements, Point
from ssl_transfer.evaluation.stage_features import StageFeatures, all_layer_probe, stage_features
from ssl_transfer.evaluation.transferability import h_score, leep, log_me
from ssl_transfer.running.short_fits import ShortFits, fresh_spec

FOLDS = 3
MOST = 3000  # labelled images that are looked at: beyond, fits cost more and say little more
COMPARED = 1000  # images of each set whose distance is measured
FEW_STEPS = 0.3  # share of a whole fit's below which it is said
NARROW = 256  # features up to which stages are read on a grid of 2x2
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Question:
    """What advice is asked about.

    Args:
        encoder: the encoder folder.
        data: labelled images, an `ImageDataModule` that is set up; its training split alone is read.
        pretraining: images that the encoder was trained on, set up, or None.
        views: augmentation of what is tuned.
        minutes: that the measurement should take.
        seed: of folds, draws and training.
        device: where encoders work.
    """

    encoder: str
    data: Any
    pretraining: Any = None
    views: Views | None = None
    minutes: float = 5.0
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def measure(asked: Question, remarks: Sequence[str] = (), say: Callable[[str], None] = print) -> Measurements:
    """Probes, short fits and distances, all by cross-validation within the labelled training images.

    remarks: what is to be told besides; `say` is told of the progress. Where a class has too few labelled images to
    hold some out, nothing is measured and the first remark says so.
    """
    started = time.monotonic()
    rows, count = labelled_rows(asked)
    classes = asked.data.num_classes
    if len(rows) < count:
        remarks = (*remarks, f"{len(rows):,} of the {count:,} labelled images were looked at")
    try:
        fold = _folds(asked, rows)
    except ValueError as error:
        return Measurements(count / classes, 0, remarks=(str(error), *remarks))
    folds = len(np.unique(fold))
    network = load_encoder(asked.encoder).resize(asked.data.shape).to(asked.device)
    batches = asked.data.with_train(rows).loader("train")
    seen = stage_features(network, batches, asked.device, pool=2 if network.feature_dim <= NARROW else 1)
    say(f"encoded {len(rows):,} labelled images of {classes} classes")
    readings = _Readings(asked, rows, fold, seen, network)
    right, curve = readings.right(), readings.curve()
    figures = _figures(asked, network, seen)
    say(f"read the features in {time.monotonic() - started:.1f} s")
    told = (asked.encoder, network, asked.data, rows, fold, asked.views, started + 60 * asked.minutes)
    done, tried = ShortFits(*told, asked.seed, asked.device).run(say)
    if len(done) < folds:
        remarks = (*remarks, f"there was time for {len(done)} of {folds} folds of the short fits: give more minutes")
    made = min(1 - one.missing for one in tried.values())
    if made < FEW_STEPS:
        remarks = (
            *remarks,
            f"short fits made {made:.0%} of the steps of whole ones: give more minutes to be surer",
        )
    held = np.isin(fold, done)
    estimates = {name: Estimate(tuple(r[held].tolist())) for name, r in right.items()}
    estimates |= {name: replace(one, right=tuple(np.array(one.right)[held].tolist())) for name, one in tried.items()}
    taught = len(rows) * (folds - 1) / folds / classes
    return Measurements(count / classes, taught, estimates, tuple(curve), figures, tuple(remarks))


def labelled_rows(asked: Question) -> tuple[Rows, int]:
    """Rows of labelled training images, ascending, at most `MOST` drawn by class and seed; and how many there are."""
    rows = asked.data.indices("train")
    targets = asked.data.table.targets
    rows = rows[targets[rows] >= 0]
    parts = -(-len(rows) // MOST)
    drawn = rows[stratified_folds(targets[rows], parts, asked.seed) == 0] if parts > 1 else rows
    return drawn, len(rows)


def _folds(asked: Question, rows: Rows) -> Rows:
    """A fold for each row, so that every class is among the other folds of each; copies and groups share one.

    Raises ValueError, saying which class has too few.
    """
    table, names = asked.data.table, asked.data.classes
    keys, targets = straddle_keys(table.hashes[rows], table.groups[rows]), table.targets[rows]
    distinct = [len(np.unique(keys[targets == k])) for k in range(len(names))]
    fewest = int(np.argmin(distinct))
    fold = stratified_folds(targets, max(1, min(FOLDS, distinct[fewest])), asked.seed, keys)
    missing = [k for f in np.unique(fold) for k in range(len(names)) if not (targets[fold != f] == k).any()]
    if missing:
        least = fewest if distinct[fewest] < 2 else missing[0]
        raise ValueError(
            f"class {names[least]!r} has too few labelled training images that differ ({distinct[least]}) to hold some "
            "out and learn from others"
        )
    return fold


@dataclass(frozen=True)
class _Readings:
    """Cheap readings of features that never change."""

    asked: Question
    rows: Rows
    fold: Rows
    seen: StageFeatures
    network: Encoder

    def curve(self) -> list[Point]:
        """kNN and linear probes on ever more labels."""
        folds, classes = len(np.unique(self.fold)), self.asked.data.num_classes
        budgets = curve_budgets(len(self.rows) * (folds - 1) / folds / classes)
        own = self.seen.own
        told = (own.features, own.targets, classes, self.fold, budgets, self.asked.seed)
        probes = (("kNN", knn_probe), ("linear", linear_probe))
        return [point for name, probe in probes for point in learning_curve(probe, name, *told)]

    def right(self) -> dict[str, Tensor]:
        """1 for each image that a reading gets right while it is held out, `(N,)`, by the reading's name."""
        own, data, device = self.seen.own, self.asked.data, self.asked.device
        random = random_encoder(data, fresh_spec(self.network), self.asked.seed).to(device)
        batches = data.with_train(self.rows).loader("train")
        readings: dict[str, tuple[Probe, Tensor]] = {
            "as_is" if self.network.spec.own_head else "frozen": (linear_probe, own.features),
            "kNN": (knn_probe, own.features),
            "all stages": (_all_stages, self.seen.features),
            "raw pixels": (linear_probe, pixel_features(data, self.rows).to(device)),
            "random encoder": (linear_probe, encode(random, batches, device).features),
        }
        return {
            name: held_out_right(probe, features, own.targets, data.num_classes, self.fold)
            for name, (probe, features) in readings.items()
        }


def _all_stages(features: Tensor, targets: Tensor, asked: Tensor, classes: int) -> Tensor:
    return all_layer_probe(features, targets, classes)(asked)


def _figures(asked: Question, network: Encoder, seen: StageFeatures) -> dict[str, float]:
    """Further measures, by name."""
    own, classes = seen.own, asked.data.num_classes
    figures = {
        "LogME": log_me(own.features, own.targets, classes),
        "H-score": h_score(own.features, own.targets, classes),
    }
    if network.spec.own_head:
        figures["LEEP"] = leep(own.features.softmax(1), own.targets, classes)
    if asked.pretraining is not None:
        there, here = (_sample(network, data, asked) for data in (asked.pretraining, asked.data.few(None, asked.seed)))
        figures[DISTANCE] = proxy_a_distance(there, here, asked.seed)
        figures["Fréchet distance"] = frechet_distance(there, here)
    return figures


def _sample(network: Encoder, data: Any, asked: Question) -> Tensor:
    """Features of unit length of images spread over the training split."""
    features = encode(network, data.loader("train", limit=COMPARED), asked.device).features
    return F.normalize(features, dim=1)
