"""Trials as a run would leave them, with made-up accuracies: images have a difficulty, seeds a draw of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ssl_transfer.evaluation.evidence import Trial, pack
from ssl_transfer.reporting.evidence_results import EvidenceResults

BUDGETS = (1, 5, 10, 50, 100, None)
FLOORS = {
    "Raw pixels": (0.31, 0.50, 0.55, 0.72, 0.76, 0.85),
    "PCA": (0.26, 0.42, 0.49, 0.69, 0.75, 0.845),
    "Random encoder": (0.30, 0.51, 0.57, 0.73, 0.78, 0.87),
    "From scratch": (0.33, 0.55, 0.64, 0.78, 0.82, 0.925),
}
OURS = {
    "kNN": (0.45, 0.62, 0.68, 0.76, 0.79, 0.876),
    "Linear": (0.46, 0.66, 0.73, 0.80, 0.82, 0.914),
    "Linear, then full tuning": (0.45, 0.655, 0.74, 0.82, 0.845, 0.93),
    "Full tuning": (0.38, 0.62, 0.70, 0.815, 0.85, 0.928),
}


def made_up(
    ours: dict[str, Sequence[float]] = OURS,
    *,
    encoders: Sequence[str] = ("SimCLR",),
    budgets: Sequence[int | None] = BUDGETS,
    seeds: int = 5,
    images: int = 2000,
    shift: float = 0.0,
    bits: bool = True,
    validation: bool = True,
    noise: float = 0.006,
) -> list[Trial]:
    """A finished grid; `shift` moves all accuracies of ours, each further encoder is 2 points worse.

    `noise`: the standard deviation of what a seed does to one method alone.
    """
    random = np.random.default_rng(0)
    ease = random.uniform(size=images)
    spread = {budget: 0.02 / (1 + (budget or 1000) / 10) for budget in BUDGETS}
    draws = {(budget, seed): random.normal(0, spread[budget]) for budget in BUDGETS for seed in range(seeds)}
    found = []
    table = [("", method, "floor", values, 0.0) for method, values in FLOORS.items()]
    table += [
        (encoder, method, "ours", values, shift - 0.02 * position)
        for position, encoder in enumerate(encoders)
        for method, values in ours.items()
    ]
    for encoder, method, kind, values, more in table:
        for budget, value in zip(BUDGETS, values, strict=True):
            if budget not in budgets:
                continue
            for seed in range(seeds):
                share = np.clip(value + more + draws[budget, seed] + random.normal(0, noise), 0.02, 0.99)
                right = ease + random.normal(0, 0.08, images) < share
                labels = 60_000 if budget is None else 10 * budget
                trial = Trial(
                    encoder=encoder,
                    method=method,
                    kind="ours" if kind == "ours" else "floor",
                    budget=budget,
                    labels=labels,
                    seed=seed,
                    accuracy=float(right.mean()),
                    val_accuracy=float(share) if validation else None,
                    calibration_error=0.3 * float(1 - share),
                    seconds=0.4 + labels**0.5 * (0.05 + len(method) / 100),
                    right=pack(right) if bits else None,
                )
                found.append(trial)
    return found


def results(trials: list[Trial]) -> EvidenceResults:
    """The trials with the rest that a page shows."""
    return EvidenceResults(
        trials=trials,
        data_name="Fashion-MNIST",
        classes=10,
        train=60_000,
        validation=0,
        test=2000,
        command="ssl-transfer evidence runs/simclr/encoder fashion_mnist --seeds 5 --out evidence/",
        machine="2 CPU cores",
        versions={"torch": "2.15.0", "ssl_transfer": "0.1.0"},
        seconds=5040.0,
        chosen_on="5-fold cross-validation within the labelled images",
        settings={"From scratch": "AdamW, learning rate 0.003, 600 steps, batches of 64, random crops"},
        pretraining_seconds={"SimCLR": 710.0},
    )


def stopped(trials: list[Trial]) -> list[Trial]:
    """A run that was stopped in the middle: seeds 3 and 4 of the larger budgets are missing, and one method more."""
    return [
        trial
        for trial in trials
        if not (trial.budget in (50, 100, None) and (trial.seed > 2 or trial.method == "Full tuning"))
    ]


def without_bits(trials: list[Trial]) -> list[Trial]:
    """The same, of which images were right is unknown."""
    return [replace(trial, right=None) for trial in trials]
