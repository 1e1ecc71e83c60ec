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
    held_out_folds,
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
READING = 0.4  # share of the minutes after which readings that are of interest alone are left out
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
        fold, rare = _folds(asked, rows)
    except ValueError as error:
        return Measurements(count / classes, 0, remarks=(str(error), *remarks))
    folds = len(held_out_folds(fold))
    remarks = (*remarks, *rare)
    network = load_encoder(asked.encoder).resize(asked.data.shape).to(asked.device)
    batches = asked.data.with_train(rows).loader("train")
    seen = stage_features(network, batches, asked.device, pool=2 if network.feature_dim <= NARROW else 1)
    say(f"encoded {len(rows):,} labelled images of {classes} classes")
    readings = _Readings(asked, rows, fold, seen, network, until=started + READING * 60 * asked.minutes)
    right, curve, left_out = readings.take()
    if left_out:
        remarks = (*remarks, f"there was no time for {' and '.join(left_out)}: give more minutes to see them")
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
    fitted = np.flatnonzero(np.isin(fold, done))
    asked_of = np.r_[fitted, np.flatnonzero((fold >= 0) & ~np.isin(fold, done))]
    estimates = {name: Estimate(tuple(r[asked_of].tolist())) for name, r in right.items()}
    estimates |= {name: replace(one, right=tuple(np.array(one.right)[fitted].tolist())) for name, one in tried.items()}
    return Measurements(count / classes, _taught(fold) / classes, estimates, tuple(curve), figures, tuple(remarks))


def labelled_rows(asked: Question) -> tuple[Rows, int]:
    """Rows of labelled training images, ascending, at most `MOST` drawn by class and seed; and how many there are."""
    rows = asked.data.indices("train")
    targets = asked.data.table.targets
    rows = rows[targets[rows] >= 0]
    parts = -(-len(rows) // MOST)
    drawn = rows[stratified_folds(targets[rows], parts, asked.seed) == 0] if parts > 1 else rows
    return drawn, len(rows)


def _folds(asked: Question, rows: Rows) -> tuple[Rows, tuple[str, ...]]:
    """A fold for each row, so that every class is among the other folds of each; copies and groups share one.

    Classes of too few images are never held out: their fold is −1, and a remark says so. Raises ValueError, saying
    which class has too few, where fewer than two others are left.
    """
    table, names = asked.data.table, asked.data.classes
    keys, targets = straddle_keys(table.hashes[rows], table.groups[rows]), table.targets[rows]
    distinct = [len(np.unique(keys[targets == k])) for k in range(len(names))]
    rare = [k for k, count in enumerate(distinct) if count < 2]
    while True:
        dealt = np.flatnonzero(~np.isin(keys, keys[np.isin(targets, rare)]))  # no copy of what is always learned from
        common = np.unique(targets[dealt])
        if len(common) < 2:
            least = min(rare, key=lambda k: distinct[k])
            raise ValueError(
                f"class {names[least]!r} has too few labelled training images that differ ({distinct[least]}) to hold "
                "some out and learn from others"
            )
        parts = max(2, min(FOLDS, *(len(np.unique(keys[dealt][targets[dealt] == k])) for k in common)))
        fold = np.full(len(rows), -1, np.int64)
        fold[dealt] = stratified_folds(targets[dealt], parts, asked.seed, keys[dealt])
        missing = [k for k in common if not all((targets[fold != f] == k).any() for f in range(parts))]
        if not missing:
            return fold, _never_asked([names[k] for k in sorted(rare)])
        rare += missing


def _never_asked(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    told = ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (f"too few images to hold some out, so only learned from and never asked about: {told}",)


def _taught(fold: Rows) -> float:
    """How many images a fold's fit learns from, on average."""
    return len(fold) - int((fold >= 0).sum()) / len(held_out_folds(fold))


@dataclass(frozen=True)
class _Readings:
    """Cheap readings of features that never change; after `until`, by `time.monotonic()`, only what is weighed."""

    asked: Question
    rows: Rows
    fold: Rows
    seen: StageFeatures
    network: Encoder
    until: float

    def take(self) -> tuple[dict[str, Tensor], list[Point], list[str]]:
        """1 for each image that a reading gets right while it is held out, `(N,)`, by its name; curves; what was left
        out as there was no time, dearest first.
        """
        own = self.seen.own.features
        started = time.monotonic()
        right = {"as_is" if self.network.spec.own_head else "frozen": self._right(linear_probe, own)}
        seconds = time.monotonic() - started  # of a linear probe
        right["kNN"] = self._right(knn_probe, own)
        curve, left_out = self._curve("kNN", knn_probe), []
        for name, features in (("raw pixels", self._pixels), ("random encoder", self._random)):
            if self._time_for(seconds):
                right[name] = self._right(linear_probe, features())
            else:
                left_out.append(name)
        if self._time_for(2 * seconds):  # each part of a curve is about twice the one before
            curve += self._curve("linear", linear_probe)
        else:
            left_out.append("the curve of the linear probe")
        if self._time_for(seconds * self.seen.features.shape[1] / own.shape[1]):
            right["all stages"] = self._right(_all_stages, self.seen.features)
        else:
            left_out.append("all stages")
        return right, curve, left_out[::-1]

    def _time_for(self, seconds: float) -> bool:
        return time.monotonic() + seconds <= self.until

    def _right(self, probe: Probe, features: Tensor) -> Tensor:
        return held_out_right(probe, features, self.seen.own.targets, self.asked.data.num_classes, self.fold)

    def _curve(self, name: str, probe: Probe) -> list[Point]:
        """A probe on ever more labels."""
        own, classes = self.seen.own, self.asked.data.num_classes
        budgets = curve_budgets(_taught(self.fold) / classes)
        return learning_curve(probe, name, own.features, own.targets, classes, self.fold, budgets, self.asked.seed)

    def _pixels(self) -> Tensor:
        return pixel_features(self.asked.data, self.rows).to(self.asked.device)

    def _random(self) -> Tensor:
        """Features of the network with random weights."""
        data, device = self.asked.data, self.asked.device
        random = random_encoder(data, fresh_spec(self.network), self.asked.seed).to(device)
        return encode(random, data.with_train(self.rows).loader("train"), device).features


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
