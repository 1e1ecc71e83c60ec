"""How two sets of images differ, in plain types."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ssl_transfer.evaluation.domain_distance import frechet_distance, proxy_a_distance
from ssl_transfer.evaluation.image_style import Style
from ssl_transfer.evaluation.kernel_distance import maximum_mean_discrepancy
from ssl_transfer.evaluation.label_shift import ClassShares
from ssl_transfer.evaluation.metrics import wilson_interval

DRAWS = 5  # of halves, over which distances are taken
PERMUTED = 1_000  # added to the seed, so that permutations are not the draws once more
EXPLAINED = 0.25  # of the discrepancy that may remain of a shift which something explains …
REMAINING = 0.05  # … and no more than this of it, as it is far from proportional where it is large
SLIGHT = 0.01  # squared discrepancy above the floor's that is within what divisions of one data set show


@dataclass(frozen=True)
class Figure:
    """A distance of source and target with its interval, and that of two halves of the source, its floor.

    Args:
        value: the mean over draws.
        low, high: what it may be.
        floor, floor_high: mean and maximum over draws of the source's halves.
    """

    value: float
    low: float
    high: float
    floor: float
    floor_high: float

    @property
    def above(self) -> bool:
        """Whether it lies above the floor, interval and all."""
        return self.low > self.floor_high

    @property
    def excess(self) -> float:
        """How much it is above the floor, at least 0."""
        return max(0.0, self.value - self.floor)


@dataclass(frozen=True)
class Space:
    """The distances as seen in one kind of features.

    Args:
        name: of the features.
        a_distance: proxy A-distance, 0 to 2; its interval is Wilson's of the classifier's accuracy.
        frechet: squared Fréchet distance; its interval, as that of the next, is the range over draws.
        discrepancy: squared maximum mean discrepancy.
        p: of the discrepancy, by permutation; floor_p: of the source's halves.
        evened: the squared discrepancy left once the target's channels have the source's mean and deviation; inverted:
            the same of the inverted target; matched: that left once the source's classes are as frequent as estimated
            for the target. NaN where it is not known.
    """

    name: str
    a_distance: Figure
    frechet: Figure
    discrepancy: Figure
    p: float
    floor_p: float
    evened: float = math.nan
    inverted: float = math.nan
    matched: float = math.nan

    def remaining(self, left: float) -> float:
        """The share of the discrepancy above the floor that is left, 0 and up; NaN without any, or unknown."""
        whole = self.discrepancy
        return max(0.0, left - whole.floor) / whole.excess if whole.above and whole.excess > 0 else math.nan

    def explained(self, left: float) -> bool:
        """Whether what is left is little of what there was, or no more than two halves of the source show."""
        whole = self.discrepancy
        if not whole.above or not math.isfinite(left):
            return False
        noise = max(0.0, whole.floor_high - whole.floor)
        return left - whole.floor <= max(noise, min(EXPLAINED * whole.excess, REMAINING))


@dataclass(frozen=True)
class Shift:
    """All that a diagnosis rests on.

    Args:
        spaces: distances by kind of features, of which the last decides.
        styles: of source and target.
        shares: class shares, None without labels; `classes` their names.
        remarks: what was left out, and why.
        identical: whether each target image is one of the source's.
    """

    spaces: tuple[Space, ...]
    styles: tuple[Style, Style]
    shares: ClassShares | None = None
    classes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())
    identical: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        told = asdict(self)
        if self.shares is not None:
            told["shares"]["moved"] = self.shares.moved
        return told


def distances(name: str, source: Tensor, target: Tensor, seed: int = 0, permutations: int = 500) -> Space:
    """Distances of source features `(N, D)` and target features `(M, D)`, and of the source's halves as the floor.

    Both are taken over draws of equal sizes, half of the source or all of the target if that is less, as a Fréchet
    distance of few images is too large.
    """
    count = min(len(source) // 2, len(target))
    generator = torch.Generator().manual_seed(seed)
    apart: dict[str, list[float]] = {"a": [], "frechet": [], "mmd": []}
    floors: dict[str, list[float]] = {"a": [], "frechet": [], "mmd": []}
    p = floor_p = math.nan
    for draw in range(DRAWS):
        own, other = (torch.randperm(len(rows), generator=generator) for rows in (source, target))
        half, rest, there = source[own[:count]], source[own[count : 2 * count]], target[other[:count]]
        for found, rows in ((apart, there), (floors, rest)):
            found["a"].append(proxy_a_distance(half, rows, seed + draw))
            found["frechet"].append(frechet_distance(half, rows))
            test = maximum_mean_discrepancy(half, rows, 0 if draw else permutations, seed + PERMUTED)
            found["mmd"].append(test.squared)
            if not draw:
                p, floor_p = (test.p, floor_p) if found is apart else (p, test.p)
    figures = {name: _figure(apart[name], floors[name]) for name in apart}
    return Space(name, _with_wilson(figures["a"], 2 * count), figures["frechet"], figures["mmd"], p, floor_p)


def discrepancy(source: Tensor, target: Tensor, seed: int = 0) -> float:
    """The squared discrepancy over draws of the same sizes as in `distances`."""
    count = min(len(source) // 2, len(target))
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(DRAWS):
        own, other = (torch.randperm(len(rows), generator=generator)[:count] for rows in (source, target))
        found.append(maximum_mean_discrepancy(source[own], target[other], 0).squared)
    return sum(found) / DRAWS


def _figure(values: list[float], floors: list[float]) -> Figure:
    mean, floor = (sum(part) / len(part) for part in (values, floors))
    return Figure(mean, min(values), max(values), floor, max(floors))


def _with_wilson(figure: Figure, count: int) -> Figure:
    """The interval of a proxy A-distance from that of the accuracy on so many images."""
    if not math.isfinite(figure.value):
        return figure
    low, high = (max(0.0, 2 * (2 * bound - 1)) for bound in wilson_interval((1 + figure.value / 2) / 2, count))
    return Figure(figure.value, low, high, figure.floor, figure.floor_high)
