"""Tuning strategies tried for a few steps each, cross-validated, in a given time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich import get_console
from rich.progress import track

from ssl_transfer.data.randomness import KeyedRandom
from ssl_transfer.data.views import Views
from ssl_transfer.downstream import Classifier
from ssl_transfer.downstream.tuning import LinearThenFull, Partial, Scratch, Tuning
from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder
from ssl_transfer.encoders.config import rebuild_spec
from ssl_transfer.evaluation.cross_validation import held_out_folds
from ssl_transfer.evaluation.measurements import Estimate
from ssl_transfer.running.fit import trainer_defaults
from ssl_transfer.running.recipes import Recipe, recipe_for
from ssl_transfer.running.trial import scores_of, trial

FEWEST_STEPS = 30  # of a fit, however few minutes there are
AROUND = 0.005  # seconds of a step beside the network's own, and …
BEFORE = 0.5  # … of a fit before its first step and after its last
TRIED: dict[str, type[Tuning]] = {"full": LinearThenFull, "scratch": Scratch, "partial": Partial}
TIME = {"full": 1.0, "scratch": 2.0, "partial": 1.5}  # shares: what begins with nothing, or no head, lacks most
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class ShortFits:
    """Strategies that learn by gradient, tried in every fold for as many steps as there is time.

    Folds come one after another, each with all strategies, so that those which time allows are compared on the same
    images.

    Args:
        encoder: the encoder folder; `network`: what is in it.
        data: an `ImageDataModule`, of which `rows (N,)` are read, ascending.
        fold: the fold of each row, `(N,)`; rows of fold −1 are never held out.
        views: augmentation.
        deadline: when to be done, by `time.monotonic()`.
        seed: of weights, order and views.
        device: where networks learn.
    """

    encoder: str
    network: Encoder
    data: Any
    rows: Rows
    fold: Rows
    views: Views | None
    deadline: float
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def run(self, say: Callable[[str], None]) -> tuple[list[int], dict[str, Estimate]]:
        """The folds there was time for, at least one, and estimates of all images `(N,)`, those of other folds 0."""
        folds = held_out_folds(self.fold)
        recipes = self._recipes(len(folds))
        made = self._affordable(recipes, len(folds))
        plan = ", ".join(f"{name} {made[name]:,} of {recipe.steps:,}" for name, recipe in recipes.items())
        say(f"{len(folds) * len(recipes)} short fits, in steps: {plan}")
        started = time.monotonic()
        right = {name: np.zeros(len(self.rows), np.int64) for name in recipes}
        done: list[int] = []
        jobs = [(held_out, name) for held_out in folds for name in recipes]
        for held_out, name in track(jobs, "short fits", transient=True, disable=not get_console().is_terminal):
            if done and time.monotonic() > self.deadline and name == next(iter(recipes)):
                break
            recipe = replace(recipes[name], steps=made[name])
            right[name][self.fold == held_out] = self._try(name, recipe, held_out)
            if name == list(recipes)[-1]:
                done.append(held_out)
        say(f"fitted in {time.monotonic() - started:.1f} s")
        return done, {name: Estimate(tuple(r.tolist()), made[name], recipes[name].steps) for name, r in right.items()}

    def _recipes(self, folds: int) -> dict[str, Recipe]:
        """By strategy; a network of one stage has no part to tune."""
        taught = len(self.rows) - -(-int((self.fold >= 0).sum()) // folds)
        stages = sum(any(True for _ in stage.parameters()) for _, stage in self.network.stages())
        return {name: recipe_for(kind(), taught) for name, kind in TRIED.items() if name != "partial" or stages > 1}

    def _try(self, name: str, recipe: Recipe, held_out: int) -> Any:
        """What one fit gets right of the images that it was not shown, `(n,)`."""
        start = fresh_spec(self.network) if name == "scratch" else str(Path(self.encoder).expanduser())
        module = Classifier(
            start,
            tuning=TRIED[name](),
            optimisation=recipe.optimisation,
            views=self.views,
            **recipe.options,
        )
        learner = self.data.with_train(self.rows[self.fold != held_out])
        how: dict[str, Any] = {"steps": recipe.steps, "batch_size": recipe.batch_size, "seed": self.seed}
        trial(module, learner, **how, accelerator=self.device.type)
        scores, targets = scores_of(module, self.data.with_train(self.rows[self.fold == held_out]), "train")
        return (scores.argmax(1) == targets).long().numpy()

    def _affordable(self, recipes: dict[str, Recipe], folds: int) -> dict[str, int]:
        """Steps of each strategy's fits within the time that is left, at most those of a whole one."""
        left = (self.deadline - time.monotonic()) / folds - BEFORE * len(recipes)
        slowest = self._seconds_a_step(max(recipe.batch_size for recipe in recipes.values()))
        share = left / slowest / sum(TIME[name] for name in recipes)
        return {name: min(recipe.steps, max(FEWEST_STEPS, int(share * TIME[name]))) for name, recipe in recipes.items()}

    def _seconds_a_step(self, batch_size: int) -> float:
        """Of the whole network with its views, the quicker of two after one that warms up."""
        torch.manual_seed(self.seed)
        fresh = build_encoder(fresh_spec(self.network), self.data.shape, self.data.mean, self.data.std)
        fresh.to(self.device).train()
        index = torch.from_numpy(np.resize(self.rows, batch_size))
        images = torch.from_numpy(self.data.images(index.numpy())).to(self.device)
        bfloat16 = trainer_defaults()["precision"].startswith("bf16")
        taken = []
        for _ in range(3):
            started = time.monotonic()
            seen = images if self.views is None else self.views(images, KeyedRandom(index.to(self.device), 0))
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
                features = fresh(seen).float()
            F.mse_loss(features, torch.zeros_like(features)).backward()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            taken.append(time.monotonic() - started)
        return min(taken[1:]) + AROUND


def fresh_spec(network: Encoder) -> EncoderSpec:
    """What builds the network with fresh weights, without the head that it may have been pretrained with."""
    return replace(rebuild_spec(network.spec), own_head=False)
