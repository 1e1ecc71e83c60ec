"""The methods that a grid compares: readings of features, and networks that learn."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_transfer.data.views import Views
from ssl_transfer.downstream import Classifier, Frozen, Tuning
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.evaluation.evidence import Kind
from ssl_transfer.evaluation.probes import knn_scores, select_logistic
from ssl_transfer.running.evidence.features import Known
from ssl_transfer.running.recipes import Recipe, recipe_for
from ssl_transfer.running.trial import scores_of, trial

UNLABELLED = 12_000  # images that teach without a label, at most
GUESSED = 5  # what they count for in the length of a fit, as a multiple of the labelled ones
Reading = Callable[[Tensor, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class Answer:
    """Probabilities `(N, K)` of the labelled images of each split that was asked, and the seconds it took."""

    probabilities: dict[str, Tensor]
    seconds: float


@dataclass(frozen=True)
class Method:
    """One line of the comparison.

    Args:
        encoder: its name, "" for a floor without.
        name: as a reader sees it.
        kind: `ours` or `floor`.
    """

    encoder: str
    name: str
    kind: Kind
    random = False  # whether a seed draws more than the labels

    def asked_splits(self, data: Any) -> list[str]:
        """The splits to answer for: test, and for ours validation if it has labels, by which ours is chosen."""
        chosen = self.kind == "ours" and len(labelled_rows(data, "val")) > 0
        return ["val", "test"] if chosen else ["test"]

    def answer(self, few: Any, seed: int) -> Answer:
        """Learn from the training split of `few` and answer for others; `few`: an `ImageDataModule`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Probe(Method):
    """A reading of frozen features.

    Args:
        features: gives them for a seed; called when they are needed.
        reading: probabilities `(Q, K)` from features and targets of the labelled, features asked about, and K.
        random: whether the features are others with another seed.
    """

    features: Callable[[int], Known]
    reading: Reading
    random: bool = False

    def answer(self, few: Any, seed: int) -> Answer:
        known = self.features(seed)
        asked = self.asked_splits(few)
        rows = {split: labelled_rows(few, split) for split in ("train", *asked)}
        started = time.monotonic()
        targets = torch.from_numpy(few.table.targets[rows["train"]])
        queries = known.at(np.concatenate([rows[split] for split in asked]))
        scores = self.reading(known.at(rows["train"]), targets, queries, few.num_classes)
        parts = scores.split([len(rows[split]) for split in asked])
        reading = time.monotonic() - started
        encoding = known.seconds * (len(rows["train"]) + len(rows["test"]))
        return Answer(dict(zip(asked, parts, strict=True)), encoding + reading)


@dataclass(frozen=True)
class Learner(Method):
    """A network that learns by gradient, as the recipe of its strategy has it.

    Args:
        start: an encoder folder, or an architecture.
        tuning: the strategy.
        views: training augmentation.
        steps: of the optimiser, instead of the recipe's.
        trainer: further arguments of Lightning's `Trainer`.
    """

    start: Path | EncoderSpec
    tuning: Tuning
    views: Views | None = None
    steps: int | None = None
    trainer: dict[str, Any] = field(default_factory=dict)
    random = True

    @property
    def starting(self) -> str | EncoderSpec:
        """`start` as a module takes it."""
        return str(self.start) if isinstance(self.start, Path) else self.start

    def recipe(self, labels: int) -> Recipe:
        """How it learns from so many labelled images."""
        recipe = recipe_for(self.tuning, labels * GUESSED if self.tuning.unlabelled else labels)
        return recipe if self.steps is None else replace(recipe, steps=self.steps)

    def answer(self, few: Any, seed: int) -> Answer:
        started = time.monotonic()
        recipe = self.recipe(len(few.indices("train")))
        tuning = copy.deepcopy(self.tuning)
        learning = {} if _solves(tuning) else {"views": self.views, **recipe.options}
        module = Classifier(self.starting, tuning=tuning, optimisation=recipe.optimisation, **learning)
        taught = few.with_unlabelled(UNLABELLED) if tuning.unlabelled else few
        trial(module, taught, steps=recipe.steps, batch_size=recipe.batch_size, seed=seed, **self.trainer)
        test = scores_of(module, few, "test")[0]
        seconds = time.monotonic() - started  # what is only for choosing among ours is not its cost
        others = {split: scores_of(module, few, split)[0] for split in self.asked_splits(few) if split != "test"}
        return Answer({"test": test, **others}, seconds)


def _solves(tuning: Tuning) -> bool:
    return isinstance(tuning, Frozen) and tuning.solve


def labelled_rows(data: Any, split: str) -> np.ndarray:
    """Rows of a split that have a class."""
    rows: np.ndarray = data.indices(split)
    return rows[data.table.targets[rows] >= 0]


def by_neighbours(train: Tensor, targets: Tensor, queries: Tensor, classes: int) -> Tensor:
    """kNN: k = 20, cosine, weights of temperature 0.1."""
    return knn_scores(train, targets, queries, classes)


def linear_of_pixels(train: Tensor, targets: Tensor, queries: Tensor, classes: int) -> Tensor:
    """The same with one scale for all features, by which pixels and their components are much the better."""
    head, _ = select_logistic((train, targets), None, classes, common_scale=True)
    return head(queries).softmax(1)


def linear(train: Tensor, targets: Tensor, queries: Tensor, classes: int) -> Tensor:
    """Logistic regression whose penalty is chosen by cross-validation among the labelled images alone."""
    head, _ = select_logistic((train, targets), None, classes)
    return head(queries).softmax(1)
