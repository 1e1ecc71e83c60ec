"""A mean with its interval over seeds and test images, and what a difference says by its interval's place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Effect = Literal["helps", "same", "unclear", "hurts"]
SAME = 0.01  # a difference that surely lies within this makes no difference


@dataclass(frozen=True)
class Interval:
    """A mean with its interval; `low` and `high` are nan where nothing tells how sure it is.

    Args:
        mean, low, high: fractions.
        count: seeds that the mean is over.
        over: what could have come out otherwise and is in the interval: "seeds and images", "seeds", "images" (of the
            test split), or "" where it is nan.
        images: half its width had the test images alone been drawn anew, nan where nothing tells.
    """

    mean: float
    low: float
    high: float
    count: int
    over: str
    images: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low)

    @property
    def half(self) -> float:
        """Half its width; of one that was cut at 0 or 1, the half that was not."""
        return max(self.high - self.mean, self.mean - self.low)

    @property
    def effect(self) -> Effect:
        """What a difference says: where its interval lies relative to zero."""
        if not self.known:
            return "unclear"
        if self.low > 0:
            return "helps"
        if self.high < 0:
            return "hurts"
        return "same" if max(-self.low, self.high) <= SAME else "unclear"


def interval(
    values: Sequence[float],
    images: NDArray[np.floating] | None = None,
    pseudo: Sequence[float] = (),
    weight: float = 1.0,
    level: float = 0.95,
) -> Interval:
    """Interval of the mean of `values`, one a seed.

    Seeds: Student's t. Images: normal. Both: the root of the sum of the squared half-widths, which is a little wide as
    what belongs to a seed and an image together counts in both.

    Args:
        values: `(S,)`; with one value the seeds say nothing.
        images: `(N,)`, the mean over the seeds of each test image's value, so that its mean is that of `values`.
        pseudo: values of images that are added, each with `weight`, before the images' variance is taken, so that a
            few images which all agree are not certainty.
        level: how often the interval should hold the true mean.

    >>> found = interval([0.8, 0.9, 1.0])
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3), found.over
    (0.9, 0.652, 1.148, 'seeds')
    """
    mean, halves, over, of_images = fmean(values), [], [], math.nan
    if len(values) > 1:
        quantile = float(stats.t.ppf((1 + level) / 2, len(values) - 1))
        halves.append(quantile * float(np.std(values, ddof=1)) / len(values) ** 0.5)
        over.append("seeds")
    if images is not None:
        together = np.concatenate([images, pseudo])
        weights = np.concatenate([np.ones(len(images)), np.full(len(pseudo), weight)])
        centre = np.average(together, weights=weights)
        variance = float(np.average((together - centre) ** 2, weights=weights) / weights.sum())
        of_images = float(stats.norm.ppf((1 + level) / 2)) * variance**0.5
        halves.append(of_images)
        over.append("images")
    half = math.hypot(*halves) if halves else math.nan
    return Interval(mean, mean - half, mean + half, len(values), " and ".join(over), of_images)
