"""How long and how fast each tuning strategy learns from so many labels: the one place that says so."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from ssl_transfer.data.views import Views
from ssl_transfer.downstream.tuning import Tuning
from ssl_transfer.optimisation import Optimisation

VIEWS = Views(crop_scale=(0.6, 1.0))  # milder crops than pretraining's: what is cut away may be what names the class
RATE, WEIGHT_DECAY, LABEL_SMOOTHING = 3e-3, 0.1, 0.1
STEPS = 300  # at least
PASSES, MANY = 96, 1_000  # over the labelled images, up to MANY of them; then fewer, by the square root
BATCH, AT, GROWTH = 32, 100, 0.3  # images a step at AT labels, growing with their GROWTH-th power
SMALLEST, LARGEST = 16, 256


@dataclass(frozen=True)
class Recipe:
    """How one strategy learns.

    Args:
        steps: of the optimiser.
        batch_size: images a step.
        optimisation: rates and schedule.
        options: further arguments of `Classifier`.
    """

    steps: int
    batch_size: int
    optimisation: Optimisation
    options: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


def recipe_for(tuning: Tuning, labels: int) -> Recipe:
    """What has proved robust for so many labelled images in all, with pretrained weights and without.

    One recipe for all strategies, so that none is held back: the head or the encoder, whichever learns faster, does so
    at RATE. Chosen on training images of Fashion-MNIST with 100 and 1,000 labels.

    >>> from ssl_transfer import Full
    >>> recipes = [recipe_for(Full(), labels) for labels in (10, 100, 1_000, 60_000)]
    >>> [(recipe.steps, recipe.batch_size) for recipe in recipes]
    [(300, 10), (300, 32), (1500, 64), (3411, 218)]
    """
    batch_size = min(labels, LARGEST, max(SMALLEST, round(BATCH * (labels / AT) ** GROWTH)))
    images = PASSES * min(labels, math.sqrt(MANY * labels))
    rate = RATE / max(tuning.encoder_lr, tuning.head_lr)
    return Recipe(
        steps=max(STEPS, round(images / batch_size)),
        batch_size=batch_size,
        optimisation=Optimisation(lr=rate, weight_decay=WEIGHT_DECAY),
        options={"label_smoothing": LABEL_SMOOTHING},
    )
