"""Intervals against closed forms and against what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ssl_transfer.evaluation.intervals import Interval, interval


def test_seeds_are_a_t_interval() -> None:
    values = [0.71, 0.74, 0.69, 0.75]
    low, high = stats.t.interval(0.9, 3, loc=np.mean(values), scale=stats.sem(values))
    found = interval(values, level=0.9)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.count, found.over) == (4, "seeds")


def test_images_without_pseudo_images_are_walds_interval() -> None:
    right = np.array([True] * 80 + [False] * 20)
    found = interval([0.8], right.astype(float))
    assert found.half == pytest.approx(1.959964 * math.sqrt(0.8 * 0.2 / 100), rel=1e-6)
    assert found.over == "images"


def test_seeds_and_images_add_their_squares() -> None:
    values, images = [0.7, 0.9], np.array([1.0] * 70 + [0.5] * 20 + [0.0] * 10)
    both, seeds = interval(values, images), interval(values)
    single = interval([0.8], images)
    assert both.half == pytest.approx(math.hypot(seeds.half, single.half))
    assert both.over == "seeds and images"
    assert both.images == pytest.approx(single.half) and math.isnan(seeds.images)


def test_one_value_alone_has_no_interval() -> None:
    found = interval([0.5])
    assert found.mean == 0.5 and not found.known and found.over == ""
    assert found.effect == "unclear"


@pytest.mark.parametrize(
    ("low", "high", "effect"),
    [(0.001, 0.2, "helps"), (-0.2, -0.001, "hurts"), (-0.01, 0.01, "same"), (-0.01, 0.011, "unclear"), (0, 0, "same")],
)
def test_the_effect_is_the_place_of_zero(low: float, high: float, effect: str) -> None:
    assert Interval((low + high) / 2, low, high, 5, "seeds").effect == effect


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Seeds and images both vary: four seeds, each a draw of skill; 200 images, each with an ease of its own."""
    random = np.random.default_rng(0)
    held = []
    for _ in range(400):
        skill, ease = random.normal(0, 0.03, 4), random.uniform(0, 0.4, 200)
        chance = np.clip(0.6 + skill[:, None] + ease[None] - 0.2, 0, 1)
        right = random.uniform(size=chance.shape) < chance
        found = interval(list(right.mean(1)), right.mean(0))
        held.append(found.low <= 0.6 <= found.high)
    assert 0.93 < np.mean(held) <= 1.0
