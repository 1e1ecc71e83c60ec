"""What tuning strategies are expected to gain: what is usual, updated by what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ssl_transfer.evaluation.measurements import Estimate, Measurements

LUCK = 0.01  # of accuracy, standard deviation: seeds, order and the draw of labels move what is trained
# What a run that hardly began lacks beside a whole one, and the deviation of that; of others their share.
SHORT = {"partial": (0.05, 0.04), "full": (0.01, 0.02), "scratch": (0.08, 0.05)}
TYPICAL = 0.3  # share of wrong images for which the above and the usual gains are meant; where less is wrong, less


@dataclass(frozen=True)
class Prior:
    """What is usual: gains in accuracy over the frozen encoder, by the labels a class.

    Args:
        means: by strategy, `(at one label a class, more for each tenfold, least, most)`.
        deviations: how far an encoder and a data set may be from that.
        together: correlation of the gains of those that train; where one pays so does another.
        drift: deviation that a tenfold of the labels adds to a gain that was measured on fewer.
        far: what a gain changes by where the images are unlike those of pretraining, a unit of proxy A-distance from 1:
            the less the encoder has seen of their kind, the more there is to learn.
    """

    means: dict[str, tuple[float, float, float, float]] = field(
        default_factory=lambda: {
            "partial": (-0.01, 0.012, -0.01, 0.03),
            "full": (-0.015, 0.02, -0.015, 0.05),
            "scratch": (-0.09, 0.035, -0.09, 0.02),
        }
    )
    deviations: dict[str, float] = field(default_factory=lambda: {"partial": 0.03, "full": 0.04, "scratch": 0.07})
    together: float = 0.3
    drift: float = 0.02
    far: dict[str, float] = field(default_factory=lambda: {"partial": 0.005, "full": 0.005, "scratch": 0.025})

    def mean(self, strategy: str, labels: float, distance: float = 1.0) -> float:
        """The usual gain with so many labels a class, at a proxy A-distance from the images of pretraining.

        >>> [round(Prior().mean("scratch", labels), 3) for labels in (1, 10, 1e6)]
        [-0.09, -0.055, 0.02]
        """
        start, slope, least, most = self.means[strategy]
        near = min(most, max(least, start + slope * math.log10(max(1.0, labels))))
        return near + self.far.get(strategy, 0.0) * (distance - 1)


@dataclass(frozen=True)
class Gains:
    """Expected gains `(S,)` over the first strategy, and their covariance `(S, S)`; measured ones with theirs.

    `imputed (S,)`: what the expected gains owe to what short fits usually lack.
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    measured: NDArray[np.float64]
    noise: NDArray[np.float64]
    imputed: NDArray[np.float64]

    @classmethod
    def of(cls, told: Measurements, names: Sequence[str], prior: Prior) -> Self:
        """Bayes' rule for Gaussians: what is usual at the labels of the folds, updated by what they showed, is carried
        over to all labels by what is usual there. No gain is more than what the first leaves wrong.
        """
        others, first = names[1:], told.estimates[names[0]]
        shared = min(len(told.estimates[name].right) for name in names)
        right = np.array([told.estimates[name].right[:shared] for name in names], float)
        paired = (right[1:] - right[0]).T  # (N, S-1)
        lack = np.array([_short(name, told.estimates[name])[0] for name in others])
        measured = paired.mean(0) + lack
        noise = _noise(paired, {name: told.estimates[name] for name in others})
        usual, beyond = (
            _within(prior_gains(prior, others, labels, told.distance), first) for labels in (told.taught, told.labels)
        )
        spread = prior_covariance(prior, others)
        weight = spread @ np.linalg.inv(spread + noise)
        expected = np.minimum(beyond + weight @ (measured - usual), 1 - first.accuracy)
        left = spread - weight @ spread
        tenfolds = math.log10(max(1.0, told.labels / max(told.taught, 1e-9)))
        left = left + np.diag(np.full(len(others), (prior.drift * tenfolds) ** 2))
        padded = np.pad(left, ((1, 0), (1, 0)))
        vectors = (np.r_[0.0, vector] for vector in (measured, np.sqrt(np.diag(noise)), weight @ lack))
        return cls(np.r_[0.0, expected], padded, *vectors)

    def difference(self, a: int, b: int) -> tuple[float, float]:
        """Expected gain of a over b, and its standard deviation."""
        c = self.covariance
        return float(self.mean[a] - self.mean[b]), math.sqrt(max(0.0, c[a, a] + c[b, b] - 2 * c[a, b]))

    def chance(self, a: int, b: int, margin: float = 0.0) -> float:
        """How probably a is better than b, or worse by no more than the margin."""
        mean, deviation = self.difference(a, b)
        return float(stats.norm.cdf((mean + margin) / max(deviation, 1e-9)))

    def mostly_imputed(self, a: int, b: int) -> bool:
        """Whether most of the expected gain of a over b, if it is one, is what short fits usually lack."""
        gain = self.difference(a, b)[0]
        return gain > 0 and float(self.imputed[a] - self.imputed[b]) > gain / 2


def prior_gains(
    prior: Prior, names: Sequence[str], labels: float, distance: float | None = None
) -> NDArray[np.float64]:
    """The usual gains `(S,)` with so many labels a class; a distance that nobody knows counts as 1, in the middle."""
    far = 1.0 if distance is None else distance
    return np.array([prior.mean(name, labels, far) if name in prior.means else 0.0 for name in names])


def prior_covariance(prior: Prior, names: Sequence[str]) -> NDArray[np.float64]:
    """How far gains are from what is usual, `(S, S)`; those that train go together."""
    deviations = np.array([prior.deviations.get(name, 0.03) for name in names])
    trained = np.array([name in prior.means for name in names])
    correlation = np.where(np.outer(trained, trained), prior.together, 0.0)
    np.fill_diagonal(correlation, 1.0)
    return correlation * np.outer(deviations, deviations)


def _noise(paired: NDArray[np.float64], estimates: dict[str, Estimate]) -> NDArray[np.float64]:
    """Covariance `(S, S)` of measured gains, from their values for each image `(N, S)`: images, luck, and short runs.

    One image more, on which the two differ, stands in for what a few that agree do not tell.
    """
    count, strategies = paired.shape
    centred = paired - paired.mean(0)
    images = (centred.T @ centred + np.eye(strategies)) / (count + 1) / count
    luck = [LUCK**2 + _short(name, one)[1] ** 2 if one.wanted else 0.0 for name, one in estimates.items()]
    return images + np.diag(luck)


def _short(name: str, estimate: Estimate) -> tuple[float, float]:
    """What the shortness of its fits has cost a strategy, at most what is left wrong, and the deviation of that."""
    lack, deviation = SHORT.get(name, (0.0, 0.0))
    share = estimate.missing * _room(estimate)
    return min(lack * share, 1 - estimate.accuracy), deviation * share


def _within(gains: NDArray[np.float64], first: Estimate) -> NDArray[np.float64]:
    """Usual gains `(S,)` where the first strategy leaves less wrong than is typical: less to gain, as much to lose."""
    return np.where(gains > 0, gains * _room(first), gains)


def _room(estimate: Estimate) -> float:
    """What is left wrong as a share of what is typical, at most 1."""
    return min(1.0, estimate.left / TYPICAL)
