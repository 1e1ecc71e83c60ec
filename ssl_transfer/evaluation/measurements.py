"""What is measured of tuning strategies within the labelled images, in plain types."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

DISTANCE = "proxy A-distance"  # among the figures


@dataclass(frozen=True)
class Estimate:
    """A strategy as cross-validation saw it.

    Args:
        right: 1 for each image that was right while held out, else 0, `(N,)`; the images of all strategies are in the
            same order, and one that there was no time to ask about all was asked about the first.
        steps: of training in each fold, and `wanted`: those that a whole run takes; both 0 for what is solved.
    """

    right: tuple[int, ...]
    steps: int = 0
    wanted: int = 0

    @property
    def accuracy(self) -> float:
        """Share of held-out images that were right."""
        return sum(self.right) / max(1, len(self.right))

    @property
    def error(self) -> float:
        """Standard error of the accuracy, by the number of images; never 0 (one more right and one more wrong)."""
        count = len(self.right) + 2
        share = (sum(self.right) + 1) / count
        return math.sqrt(share * (1 - share) / count)

    @property
    def left(self) -> float:
        """Share of images that is still wrong; never 0 (one more right and one more wrong)."""
        return (len(self.right) - sum(self.right) + 1) / (len(self.right) + 2)

    @property
    def missing(self) -> float:
        """The share of a whole run's steps that was not made."""
        return max(0.0, 1 - self.steps / self.wanted) if self.wanted else 0.0


@dataclass(frozen=True)
class Point:
    """A probe on `labels` labelled images a class: its mean accuracy on held-out images, and the standard error."""

    probe: str
    labels: float
    accuracy: float
    error: float


@dataclass(frozen=True)
class Measurements:
    """All that an advice rests on, in plain types: `from_dict(m.to_dict()) == m`.

    Args:
        labels: labelled training images a class, on average; `taught`: those of them that a fold's fit learned from.
        estimates: by strategy (`STRATEGIES`). Others, such as floors, are shown and do not compete.
        curve: probes by the number of labels.
        figures: further measures by name, of which the `DISTANCE` is weighed and others are shown.
        remarks: what was left out, and why.
    """

    labels: float
    taught: float
    estimates: dict[str, Estimate] = field(default_factory=dict)
    curve: tuple[Point, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """How many held-out images the estimates are of, where there was time for all."""
        return max((len(estimate.right) for estimate in self.estimates.values()), default=0)

    @property
    def distance(self) -> float | None:
        """Proxy A-distance of the images from those of pretraining, 0 to 2; None where it was not measured."""
        return self.figures.get(DISTANCE)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        estimates = {
            name: Estimate(tuple(given["right"]), given["steps"], given["wanted"])
            for name, given in told["estimates"].items()
        }
        points = tuple(Point(**point) for point in told["curve"])
        rest = {f.name: told[f.name] for f in fields(cls)}
        rest |= {"estimates": estimates, "curve": points, "remarks": tuple(told["remarks"])}
        return cls(**rest)
