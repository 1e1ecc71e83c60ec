"""The grid: which methods at which budgets with which seeds, and each cell measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from ssl_transfer.data.views import Views
from ssl_transfer.downstream import Scratch, Tuning
from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder, load_encoder
from ssl_transfer.encoders.config import read_config, rebuild_spec
from ssl_transfer.evaluation.evidence import Trial, pack
from ssl_transfer.evaluation.floors import random_encoder
from ssl_transfer.evaluation.probes import accuracy
from ssl_transfer.running.evidence.features import FeatureFiles, Known
from ssl_transfer.running.evidence.methods import (
    Learner,
    Method,
    Probe,
    by_neighbours,
    labelled_rows,
    linear,
    linear_of_pixels,
)

LINEAR = "Frozen"  # what Linear is as a strategy


@dataclass(frozen=True)
class Cell:
    """One method, one budget, one seed."""

    method: Method
    budget: int | None
    seed: int

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells a cell from all others, as `key_of` does of its trial."""
        return self.method.encoder, self.method.name, self.budget, self.seed


def key_of(trial: Trial) -> tuple[Any, ...]:
    """The key of the cell that a trial has measured."""
    return trial.encoder, trial.method, trial.budget, trial.seed


@dataclass
class Grid:
    """What is compared.

    Args:
        data: labelled images with a test split, an `ImageDataModule`, ready.
        encoders: encoder folders by name; floors take the architecture of each, every architecture once.
        tunings: strategies by name; `Frozen` is the linear classifier, which is measured anyway, as is kNN.
        budgets: labelled images a class, None for all.
        seeds: how many draws of labels and weights.
        features: the folder in which encoded images are kept.
        views: training augmentation of everything that learns by gradient.
        steps: of the optimiser, instead of the recipes'.
        device: to compute on.
    """

    data: Any
    encoders: dict[str, Path]
    tunings: dict[str, Tuning]
    budgets: list[int | None]
    seeds: int
    features: Path
    views: Views | None = None
    steps: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @cached_property
    def methods(self) -> list[Method]:
        """Ours, then the floors."""
        ours = [method for name, path in self.encoders.items() for method in self._ours(name, path)]
        return ours + list(self._floors())

    def cells(self) -> list[Cell]:
        """All cells, the cheap ones first, and of those that learn a whole seed before the next."""
        cells = [Cell(m, budget, seed) for seed in range(self.seeds) for budget in self.budgets for m in self.methods]
        return sorted(cells, key=lambda cell: isinstance(cell.method, Learner))

    def settings(self) -> dict[str, Any]:
        """What a resumed run must share with the one before, in plain types."""
        learners = [method for method in self.methods if isinstance(method, Learner)]
        return {
            "source": self.data.fingerprint,
            "views": asdict(self.views) if self.views else None,
            "steps": self.steps,
            "encoders": {name: weights_of(path) for name, path in self.encoders.items()},
            "architecture": {
                f"the floors{f' of {label}' if label else ''}": asdict(spec)
                for label, spec in self._architectures.items()
            },
            "recipe": {
                f"{method.name} with {self.labels(budget)} labels": method.recipe(self.labels(budget)).describe()
                for method in learners
                for budget in self.budgets
            },
        }

    def labels(self, budget: int | None) -> int:
        """Labelled training images in all."""
        return len(self.draw(budget, 0).indices("train"))

    def draw(self, budget: int | None, seed: int) -> Any:
        """The data with a draw of labels to train on."""
        seed = 0 if budget is None else seed
        if (budget, seed) not in self._draws:
            self._draws[budget, seed] = self.data.few(budget, seed)
        return self._draws[budget, seed]

    def work(self, cell: Cell) -> float:
        """Images that a cell's network sees while it learns, 0 for a reading of features."""
        if not isinstance(cell.method, Learner):
            return 0.0
        recipe = cell.method.recipe(self.labels(cell.budget))
        return float(recipe.steps * recipe.batch_size)

    def measure(self, cell: Cell, known: list[Trial]) -> Trial:
        """The trial of a cell; of a method without chance on all labels one of the `known` will do for every seed."""
        if cell.budget is None and not cell.method.random:
            for trial in known:
                if key_of(trial)[:3] == cell.key[:3]:
                    return replace(trial, seed=cell.seed)
        few = self.draw(cell.budget, cell.seed)
        answer = cell.method.answer(few, cell.seed)
        targets = {s: torch.from_numpy(few.table.targets[labelled_rows(few, s)]) for s in answer.probabilities}
        test, truth = answer.probabilities["test"], targets["test"]
        return Trial(
            encoder=cell.method.encoder,
            method=cell.method.name,
            kind=cell.method.kind,
            budget=cell.budget,
            labels=len(few.indices("train")),
            seed=cell.seed,
            accuracy=accuracy(test, truth),
            val_accuracy=accuracy(answer.probabilities["val"], targets["val"]) if "val" in targets else None,
            calibration_error=calibration_error(test, truth),
            seconds=round(answer.seconds, 3),
            right=pack((test.argmax(1) == truth).numpy()),
        )

    # the methods

    def _ours(self, name: str, path: Path) -> Iterator[Method]:
        yield from self._probes(name, path)
        for strategy, tuning in self.tunings.items():
            if strategy != LINEAR:
                yield Learner(name, strategy, "ours", path, tuning, self.views, self.steps, self._trainer)

    def _probes(self, name: str, path: Path) -> Iterator[Method]:
        make = partial(build_encoder, str(path), self.data.shape, self.data.mean, self.data.std)

        def features(seed: int) -> Known:
            return self._files.encoded(f"encoder {weights_of(path)}", make)

        yield Probe(name, "Linear", "ours", features, linear)
        yield Probe(name, "kNN", "ours", features, by_neighbours)

    def _floors(self) -> Iterator[Method]:
        yield Probe("", "Raw pixels", "floor", lambda seed: self._files.pixels(), linear_of_pixels)
        yield Probe("", "PCA", "floor", lambda seed: self._files.components(), linear_of_pixels)
        for label, spec in self._architectures.items():
            yield Probe(label, "Random encoder", "floor", partial(self._random, spec), linear, random=True)
            if _learns(random_encoder(self.data, spec)):
                scratch = (spec, Scratch(), self.views, self.steps, self._trainer)
                yield Learner(label, "From scratch", "floor", *scratch)

    def _random(self, spec: EncoderSpec, seed: int) -> Known:
        """Features by random weights, which the seed draws."""
        name = f"random {json.dumps(asdict(spec), sort_keys=True)}" + (f" seed {seed}" if seed else "")
        return self._files.encoded(name, partial(random_encoder, self.data, spec, seed))

    @cached_property
    def _architectures(self) -> dict[str, EncoderSpec]:
        """Every architecture once, by the name of the first encoder that has it, or "" if all have the same."""
        found: dict[str, EncoderSpec] = {}
        for name, path in self.encoders.items():
            spec = rebuild_spec(load_encoder(path).spec)
            if spec not in found.values():
                found[name] = spec
        return found if len(found) > 1 else {"": next(iter(found.values()))}

    def check(self) -> None:
        """Raise ValueError for a strategy that does not suit an encoder, before hours are spent."""
        for method in self.methods:
            if isinstance(method, Learner):
                given = (method.starting, self.data.shape, self.data.mean, self.data.std)
                method.tuning.chosen(method.tuning.encoder(*given))

    # shared by all cells

    @cached_property
    def _draws(self) -> dict[tuple[int | None, int], Any]:
        return {}

    @cached_property
    def _files(self) -> FeatureFiles:
        rows = [self.draw(budget, seed).indices("train") for budget in self.budgets for seed in range(self.seeds)]
        rows += [labelled_rows(self.data, split) for split in ("val", "test")]
        return FeatureFiles(self.features, self.data, np.concatenate(rows), self.device)

    @property
    def _trainer(self) -> dict[str, Any]:
        devices: Any = 1 if self.device.index is None else [self.device.index]
        return {"accelerator": self.device.type, "devices": devices}


def calibration_error(probabilities: Tensor, targets: Tensor) -> float:
    """Expected calibration error, 15 bins, of `(N, K)` probabilities."""
    return float(multiclass_calibration_error(probabilities, targets, probabilities.shape[1], n_bins=15))


def weights_of(path: Path) -> str:
    """The hash of an encoder folder's weights."""
    return str(read_config(path)["sha256"]["model.safetensors"])


def _learns(encoder: Encoder) -> bool:
    return any(True for _ in encoder.parameters())
